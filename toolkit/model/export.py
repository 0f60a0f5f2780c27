"""An adapter as a GGUF file for llama.cpp and what is built on it (Ollama, LM Studio), with a Modelfile and a card.

llama.cpp itself reads the file before it takes its place. Its tokens have to be those of training. Its greedy names and
the log-likelihoods of names after the adapter's samples are compared with those of the adapter on its base in float32.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toolkit import cards
from toolkit.core import Progress, ignore
from toolkit.core.errors import CheckFailed, EnvironmentLacks, InputError
from toolkit.core.folder import atomic_folder, check_replaceable, write_manifest
from toolkit.core.layout import GGUF_TYPES
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import chat, generate, rank
from toolkit.model.chat_template import Messages, read_format, render
from toolkit.model.gguf_writer import BY_PEFT, check_family, write_lora, write_model
from toolkit.model.llama_cpp import LlamaCpp, check_installed
from toolkit.model.loading import PROBE_TEXT
from toolkit.model.memory import check_disk, disk_errors, memory_errors
from toolkit.model.merge import SHORT, Sample, load_unquantised, made_from, merged_model, samples_to_compare

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Nats by which the log-likelihood of a name may differ: several times what was measured (`docs/figures.md`), and less
# than what a wrong weight makes.
LIMITS = {"f32": 0.25, "f16": 0.25, "q8_0": 2.5, "q4_k_m": 10.0}
# Bytes on the disk for each number of the model, with what is there for a time.
BYTES = {"f32": 2.1, "f16": 2.1, "q8_0": 1.2, "q4_k_m": 2.8}
TYPES = f"Choose one of {', '.join(GGUF_TYPES)}; a LoRA file has none."
QUANTIZE, MODELFILE, BASE_FILE = "llama-quantize", "Modelfile", "base.gguf"
# What stands for a description while the chat template is rendered, and Ollama's other name for a setting.
MARK, OLLAMA = "⟦description⟧", {"max_new_tokens": "num_predict"}


@dataclass(frozen=True, slots=True)
class Exported:
    """A GGUF file that was written, and what llama.cpp made of it.

    Attributes:
        path: Its folder, which holds a `Modelfile` for Ollama and a card too.
        file: The name of the GGUF file there.
        type: That of its matrices.
        lora: Whether it is a LoRA file, for a base that llama.cpp has loaded.
        bytes: Its size.
        check: What was compared, None if nothing was: by which `llama_cpp`, `samples`, `differences` of greedy
            names (`id`, `adapter`, `exported`), how many `names` got a log-likelihood, and the `largest` and `mean`
            difference of these in nats.
    """

    path: Path
    file: str
    type: str
    lora: bool
    bytes: int
    check: dict[str, Any] | None


def export(
    adapter: str | Path,
    out: str | Path,
    type: str | None = None,
    *,
    lora: bool = False,
    check: bool = True,
    progress: Progress = ignore,
    revision: str | None = None,
    base: str | None = None,
) -> Exported:
    """Write the folder of a GGUF file: the adapter merged into its unquantised base, or by itself.

    Args:
        adapter: The folder or the Hub id of a LoRA adapter.
        out: The new folder, written whole or not at all.
        type: Of the merged model's matrices, by default `q8_0`; a LoRA file is in float32.
        lora: Write a LoRA file, which llama.cpp adds to a GGUF file of the base.
        check: Compare names and log-likelihoods; the tokens are compared in any case.
        progress: Called after each sample that is asked.
        revision: Commit, branch or tag of an adapter on the Hub.
        base: Hub id or folder of another base than the one that the adapter names.

    Raises:
        InputError: As `merge`; a family or a tokenizer that is not written; or a LoRA that changes other layers.
        EnvironmentLacks: As `merge`; a package of the extra `export`, or llama.cpp's `llama-quantize`, is missing.
        CheckFailed: llama.cpp reads other tokens, or makes another model of the file; nothing is written then.
    """
    kind = "f32" if lora else type or GGUF_TYPES[0]
    if type not in (None, *GGUF_TYPES) or (lora and type):
        raise InputError(f"The type {type} is not written{' as a LoRA file' if lora else ''}.", TYPES)
    check_installed()
    quantizer = _quantizer() if kind == "q4_k_m" else None
    name, adapter, out = str(adapter), adapters.locate_adapter(str(adapter), revision), Path(out)
    check_replaceable(out, "gguf")
    manifest = adapters.manifest_of(adapter)
    decoding = load_recipe(manifest.get("recipe")).decoding if manifest else None
    samples = samples_to_compare(adapter, manifest)
    model, tokenizer, located = load_unquantised(adapter, "float32", base)
    check_family(model.config)
    facts = made_from(name, adapter, manifest, located) | {"type": kind, "lora": lora}
    title = re.sub(r"[^\w.-]+", "-", facts["adapter"]["id"].rpartition("/")[2])
    facts["file"] = f"{title}-{'LoRA-' if lora else ''}{kind.upper()}.gguf"
    about = {"name": title, "decoding": decoding and decoding.model_dump()}
    most = (decoding or SHORT).max_new_tokens
    with memory_errors():
        wanted = _by_transformers(model, tokenizer, samples, decoding or SHORT, progress) if check else []
    numbers = sum(weight.numel() for weight in model.parameters())
    check_disk("The export", int(numbers * BYTES[kind]), out.resolve().parent, "Free some space.")
    with disk_errors(out), atomic_folder(out, "gguf") as folder:
        file = folder / facts["file"]
        with TemporaryDirectory(prefix=".gguf-", dir=folder) as beside:
            if lora:
                write_lora(file, model, about)
                plain: PreTrainedModel = model.unload()
            else:
                plain = merged_model(model)
            del model
            # A LoRA file is looked at on its base; what llama.cpp quantises is in 16 bits before.
            whole = Path(beside) / BASE_FILE if lora or quantizer else file
            write_model(whole, plain, tokenizer, "f16" if lora or quantizer else kind, about)
            del plain
            if quantizer:
                _quantize(quantizer, whole, file)
            context = max(len(_prompt(tokenizer, sample)) for sample in samples) + most + 64
            llama = LlamaCpp(whole if lora else file, context, file if lora else None)
            with closing(llama):
                _check_tokens(llama, tokenizer, samples)
                if check:
                    facts["check"] = _compared(llama, tokenizer, samples, wanted, most, progress)
                    _refuse_another_model(facts["check"]["largest"], kind)
        facts["bytes"] = file.stat().st_size
        (folder / MODELFILE).write_text(_modelfile(tokenizer, facts, decoding), encoding="utf-8")
        cards.render_gguf_card(folder, facts, samples[0]["messages"])
        write_manifest(folder, "gguf", facts)
    return Exported(out, facts["file"], kind, lora, facts["bytes"], facts.get("check"))


# What the adapter and llama.cpp are asked.


@dataclass(frozen=True, slots=True)
class _Answer:
    """The greedy name after a sample, and names (its answer and this one) as tokens with their log-likelihoods."""

    greedy: str
    names: list[list[int]]
    log_likelihoods: list[float]


def _by_transformers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    decoding: DecodingSettings,
    progress: Progress,
) -> list[_Answer]:
    answers = []
    for number, sample in enumerate(samples, start=1):
        greedy = generate.greedy_name(model, tokenizer, sample["messages"], decoding)
        asked = dict.fromkeys(name for name in (sample.get("answer"), greedy) if name)
        names = rank.encode_answers(tokenizer, list(asked))
        answers.append(_Answer(greedy, names, rank.log_likelihoods(model, _prompt(tokenizer, sample), names)))
        progress("adapter", number, len(samples))
    return answers


def _compared(
    llama: LlamaCpp,
    tokenizer: PreTrainedTokenizerBase,
    samples: Sequence[Sample],
    wanted: Sequence[_Answer],
    most: int,
    progress: Progress,
) -> dict[str, Any]:
    """Facts of the check: names that differ, and by how many nats log-likelihoods do."""
    differences, nats = [], []
    for number, (sample, answer) in enumerate(zip(samples, wanted, strict=True), start=1):
        prompt = _prompt(tokenizer, sample)
        got = llama.greedy_name(prompt, most)
        if got != answer.greedy:
            differences.append({"id": str(sample["id"]), "adapter": answer.greedy, "exported": got})
        for name, expected in zip(answer.names, answer.log_likelihoods, strict=True):
            nats.append(abs(llama.log_likelihood(prompt, name) - expected))
        progress("llama.cpp", number, len(samples))
    return {
        "llama_cpp": version("xllamacpp"),
        "samples": len(samples),
        "differences": differences,
        "names": len(nats),
        "largest": round(max(nats, default=0.0), 4),
        "mean": round(sum(nats) / max(1, len(nats)), 4),
    }


def _refuse_another_model(largest: float, kind: str) -> None:
    """Raise CheckFailed where the file is farther from the adapter than its type explains."""
    if not largest <= LIMITS[kind]:
        raise CheckFailed(
            f"The log-likelihood of a name by llama.cpp is {largest:.2f} nats from the adapter's, more than {kind} "
            f"explains ({LIMITS[kind]:g}).",
            BY_PEFT,
        )


def _prompt(tokenizer: PreTrainedTokenizerBase, sample: Sample) -> list[int]:
    return chat.prompt_ids(tokenizer, sample["messages"])


def _check_tokens(llama: LlamaCpp, tokenizer: PreTrainedTokenizerBase, samples: Sequence[Sample]) -> None:
    """Raise CheckFailed unless llama.cpp makes the same text of conversations, and the same tokens of texts."""
    for sample in samples:
        # llama.cpp leaves the begin-of-text token to its tokenizer.
        text = _rendered(tokenizer, sample["messages"])
        if llama.prompt(sample["messages"]) != text:
            raise _other_text("renders the chat template in another way", sample["id"])
        if llama.tokens(text, whole=True) != _prompt(tokenizer, sample):
            raise _other_text("makes other tokens of the prompt", sample["id"])
    for text in (PROBE_TEXT, *(turn["content"] for sample in samples for turn in sample["messages"])):
        if llama.tokens(text, whole=False) != tokenizer(text, add_special_tokens=False)["input_ids"]:
            raise _other_text("makes other tokens of a text", repr(text[:40]))


def _other_text(does: str, where: str) -> CheckFailed:
    return CheckFailed(f"llama.cpp {does} than the adapter's tokenizer ({where}).", BY_PEFT)


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """The prompt as text, without the token that tokenizers put before any text by themselves."""
    text: str = render(tokenizer, read_format(tokenizer).template, messages, None, tokenize=False)
    return text.removeprefix(str(tokenizer.bos_token)) if chat.begins_every_text(tokenizer) else text


# What is beside the file, and 4 bits.


def _modelfile(tokenizer: PreTrainedTokenizerBase, facts: Mapping[str, Any], decoding: DecodingSettings | None) -> str:
    """A Modelfile of Ollama: its template takes a description, and writes request and turns as they were trained."""
    request = facts["request"]
    messages = chat.naming_messages(MARK, request, facts["system"]) if request else [{"role": "user", "content": MARK}]
    before, _, after = (part.replace("{{", '{{ "{{" }}') for part in _rendered(tokenizer, messages).partition(MARK))
    stops = tokenizer.convert_ids_to_tokens(chat.end_of_turn_ids(tokenizer))
    sampling = decoding.model_dump() if decoding else {}
    settings = [(OLLAMA.get(key, key), f"{value:g}") for key, value in sampling.items()]
    settings += [("min_p", "0"), ("repeat_penalty", "1"), *(("stop", f'"{stop}"') for stop in stops)]
    base = f"# {BASE_FILE} is a GGUF file of {facts['base']['id']} in 16 bits, to be put beside this file.\n"
    return (
        f"# ollama create names -f {MODELFILE} && ollama run names 'A description'\n"
        + (f"{base}FROM ./{BASE_FILE}\nADAPTER ./{facts['file']}\n" if facts["lora"] else f"FROM ./{facts['file']}\n")
        + f'TEMPLATE """{before}{{{{ .Prompt }}}}{after}"""\n'
        + "".join(f"PARAMETER {key} {value}\n" for key, value in settings)
    )


def _quantizer() -> str:
    found = shutil.which(QUANTIZE)
    if found is None:
        raise EnvironmentLacks(
            f"The type q4_k_m needs llama.cpp's {QUANTIZE}, which is not on the PATH.",
            "Install llama.cpp (`brew install llama.cpp`, `winget install llama.cpp`, or its releases), or choose "
            "`type`: q8_0.",
        )
    return found


def _quantize(quantizer: str, whole: Path, file: Path) -> None:
    ran = subprocess.run(
        [quantizer, str(whole), str(file), "Q4_K_M"], capture_output=True, text=True, errors="replace", check=False
    )
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().split("\n")[-1]
        raise InputError(f"{QUANTIZE} failed: {said}", "Choose `type`: q8_0.")
