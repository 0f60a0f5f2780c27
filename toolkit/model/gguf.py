"""A GGUF file, llama.cpp's format, as the folder of a base: dequantised by transformers, written in bf16, and checked.

What transformers reads wrongly it reads in silence: so every tensor has to be accounted for, and the model that was
written has to know a plain sentence.
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import EnvironmentLacks, InputError, after_saying, library_errors
from toolkit.core.folder import read_json, sha256_file, write_json
from toolkit.core.layout import TOKENIZER_CONFIG
from toolkit.model import chat
from toolkit.model.base import LocatedBase
from toolkit.model.chat_template import ANSWERS, with_answer
from toolkit.model.loading import PROBE_TEXT, Precision, load_base, load_tokenizer
from toolkit.model.memory import check_disk, disk_errors, memory_errors

if TYPE_CHECKING:
    from gguf import GGUFReader
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPE = "bfloat16"
# One that any language model has seen in many forms: SmolLM2-135M in 4 bits needs 2.2 nats a token, guessing 10.8.
SENTENCE = "The sun rises in the east and sets in the west."
# What a plain sentence may cost, as a share of guessing: norms read as another family's cost more than all of it.
KNOWS = 0.5
# Llama 3's way to long texts, as llama.cpp keeps it: transformers leaves it out. The numbers are of all its releases.
ROPE_FACTORS = "rope_freqs.weight"
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
ANOTHER = "Download it again, or choose another file."


@dataclass(frozen=True, slots=True)
class GgufFile:
    """What a GGUF file says of itself.

    Attributes:
        sha256: Of the whole file.
        name: The model's name in it, which may be empty.
        license: Licence id in it; None where it states none.
        types: Types of its tensors, by how many numbers they hold: `Q4_1`, `Q8_0`, `F32`.
        numbers: How many numbers its weights hold.
        rope_factors: What Llama 3 divides the frequencies of its positions by, `[head size / 2]`; None: by nothing.
    """

    path: Path
    sha256: str
    name: str
    license: str | None
    types: tuple[str, ...]
    numbers: int
    rope_factors: NDArray[Any] | None

    @property
    def quantised(self) -> bool:
        """Whether most of its numbers were rounded to fewer bits than the original's."""
        return self.types[0] not in ("F32", "F16", "BF16")


def read_gguf(file: Path) -> GgufFile:
    """Read the header of a GGUF file.

    Raises:
        InputError: There is no such file, it is no GGUF file, or not a whole one.
        EnvironmentLacks: The package `gguf` is not installed.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}.", "Name a .gguf file.")
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(f"{file} is not a GGUF file.", "Name a .gguf file.")
    reader = _reader(file)
    name, license = (_text(reader, f"general.{key}") for key in ("name", "license"))
    scaling = _text(reader, f"{_text(reader, 'general.architecture')}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise InputError(f"{file} scales its positions ({scaling}), which transformers does not read.", ANOTHER)
    counts, factors = Counter[str](), None
    for tensor in reader.tensors:
        if tensor.name == ROPE_FACTORS:
            factors = tensor.data
        else:
            counts[tensor.tensor_type.name] += int(tensor.n_elements)
    if not counts:
        raise InputError(f"{file} holds no weights.", ANOTHER)
    types = tuple(kind for kind, _ in counts.most_common())
    return GgufFile(file, sha256_file(file), name or "", license, types, counts.total(), factors)


def _reader(file: Path) -> GGUFReader:
    if importlib.util.find_spec("gguf") is None:
        raise EnvironmentLacks(
            "Reading a GGUF file needs the package gguf, which is not installed.", "Install it with `pip install gguf`."
        )
    from gguf import GGUFReader

    with library_errors(f"{file} is damaged, or not a whole GGUF file", ANOTHER):
        return GGUFReader(file)


def _text(reader: GGUFReader, key: str) -> str | None:
    field = reader.get_field(key)
    value = field.contents() if field is not None else None
    return value if isinstance(value, str) else None


def write_base(gguf: GgufFile, folder: Path, base_id: str) -> dict[str, Any]:
    """Write weights, configuration and tokenizer with chat template into an empty folder, and check what was written.

    Returns:
        Facts for the manifest: architecture, parameters, dtype, and what the check found.

    Raises:
        InputError: transformers cannot read it, there is no chat template or one that cannot be trained with, the
            tokenizer loses text, a tensor is missing or left over, or the model does not know a plain sentence.
        EnvironmentLacks: Memory or disk do not hold the base.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    check_disk(f"The base {base_id}", 2 * gguf.numbers, folder, "Free some space.")
    with after_saying(f"{gguf.path}:"):
        _save_tokenizer(_load(gguf, AutoTokenizer), folder)
        _check_tokenizer(load_tokenizer(folder))
        model = _load(gguf, AutoModelForCausalLM, dtype=DTYPE, quantization_config=GgufConfig(dequantize=True))
        # The name in the file, which may be a path.
        vars(model.config).pop("_model_name_or_path", None)
        _check_weights(gguf, model)
        if gguf.rope_factors is not None:
            _divide_frequencies(model, gguf.rope_factors)
        with disk_errors(folder):
            model.save_pretrained(folder)
        facts = {"architecture": type(model).__name__, "parameters": model.num_parameters(), "dtype": DTYPE}
        del model
        return facts | {"check": _check_model(LocatedBase(base_id, None, folder))}


def _load(gguf: GgufFile, auto: Any, **how: Any) -> Any:
    from transformers import __version__

    refused, remedy = f"transformers {__version__} cannot read it", "Choose a file of a Llama, Gemma or Qwen model."
    with library_errors(refused, remedy), memory_errors():
        return auto.from_pretrained(gguf.path.parent, gguf_file=gguf.path.name, **how)


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer so that it is loaded as it is: the class of a family would be made anew from its vocabulary."""
    tokenizer.save_pretrained(folder)
    config = read_json(folder / TOKENIZER_CONFIG)
    write_json(folder / TOKENIZER_CONFIG, config | {"tokenizer_class": "PreTrainedTokenizerFast"})


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError unless the tokenizer keeps texts as they are, and its template can be trained with."""
    messages = with_answer(chat.naming_messages(PROBE_TEXT.strip()), ANSWERS[0])
    chat.check_beginning(tokenizer, chat.encode(tokenizer, messages).input_ids)
    back = tokenizer.decode(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])
    if back.strip() != PROBE_TEXT.strip():
        raise InputError(f"Its tokenizer makes {back.strip()!r} of {PROBE_TEXT.strip()!r}.", ANOTHER)


def _check_weights(gguf: GgufFile, model: PreTrainedModel) -> None:
    # transformers draws at random what it misses, and leaves out what it does not know.
    if model.num_parameters() != gguf.numbers:
        raise InputError(
            f"It holds {gguf.numbers:,} numbers, and a {type(model).__name__} like this {model.num_parameters():,}.",
            ANOTHER,
        )


def _divide_frequencies(model: PreTrainedModel, factors: NDArray[Any]) -> None:
    """Write Llama 3's factors into the configuration as the settings that they were made from."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config, plain = model.config, model.model.rotary_emb.inv_freq.float()
    config.rope_parameters = {**config.rope_parameters, "rope_type": "llama3", "factor": float(factors.max()), **LLAMA3}
    made, _ = ROPE_INIT_FUNCTIONS["llama3"](config, plain.device)
    if not torch.allclose(made, plain / torch.tensor(factors), rtol=1e-3):
        raise InputError("Its positions are scaled in a way that is not Llama 3's.", ANOTHER)


def _check_model(base: LocatedBase) -> dict[str, Any]:
    """The loss on a plain sentence of the model in a folder; InputError where it is none of a language model."""
    import torch

    model, tokenizer = load_base(base, Precision("none", DTYPE)), load_tokenizer(base.path)
    ids = tokenizer(SENTENCE, return_tensors="pt")["input_ids"].to(model.device)
    with memory_errors(), torch.inference_mode():
        loss = float(model(input_ids=ids, labels=ids).loss)
    chance = math.log(model.config.get_text_config().vocab_size)
    # NaN is not less either.
    if not loss < KNOWS * chance:
        raise InputError(
            f"What was read of it is no language model: a plain sentence costs {loss:.1f} nats a token, guessing "
            f"{chance:.1f}.",
            ANOTHER,
        )
    return {"sentence": SENTENCE, "loss": round(loss, 2), "chance": round(chance, 2)}
