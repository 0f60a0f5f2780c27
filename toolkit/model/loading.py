"""Base, 4-bit, precision, adapter: the only place that loads weights. Knows nothing of data."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError, after_saying, first_line
from toolkit.core.folder import read_json, read_manifest
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, TINY_BASE_ID, TOKENIZER_CONFIG
from toolkit.core.recipe import LoraSettings
from toolkit.model.base import LocatedBase, base_hash, cached_config, how_to_mend, locate_base
from toolkit.model.machine import compute_dtype
from toolkit.model.memory import memory_errors
from toolkit.model.offers import read_config
from toolkit.model.precision import overflow

# What is read once to see whether a model's numbers fit fp16: the largest stand at the first token and at signs.
PROBE_TEXT = "A small red fox with six tails. 꼬리가 여섯인 작은 여우: 1, 2, 3…\n\n"
JOINED = {"qkv_proj": {"q_proj", "k_proj", "v_proj"}, "gate_up_proj": {"gate_proj", "up_proj"}}
TOWERS = r".*\b(vision|audio)\w*\..*"
# What the libraries raise on files that are not what they should be.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError)
# Whole by family, its head among them. Gemma 3n clamps these small ones in its forward pass.
UNQUANTISED = {"gemma3n": ["lm_head", "prediction_coefs", "correction_coefs"]}
EMBEDDINGS = {"embed_tokens", "lm_head"}
LORA_A, LORA_B = re.compile(r"(\.lora_(?:embedding_)?)A\b"), re.compile(r"(\.lora_(?:embedding_)?)B\b")


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are held.

    Attributes:
        base: `nf4` or `none` (not quantised).
        compute: Name of the torch dtype that is computed in.
        overflowed: What did not fit fp16, where that is why it is computed in fp32.
    """

    base: str
    compute: str
    overflowed: str | None = None

    def widened(self, overflowed: str) -> Precision:
        """The same in fp32, which holds whatever bf16 holds and more exactly."""
        return replace(self, compute="float32", overflowed=overflowed)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder of a base or an adapter.

    Raises:
        InputError: There is none, or it can not be read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoTokenizer

    unreadable = InputError(f"{folder} holds no tokenizer that can be read.", "Download it again, or choose another.")

    def mend_bare(kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        # What the tokenizers library finds wrong with a file has no class of its own, so no `except` names it.
        if kind is Exception:
            raise unreadable from error

    with ExitStack() as stack:
        stack.push(mend_bare)
        try:
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, *DAMAGED, StrictDataclassError) as error:
            raise unreadable from error


def chosen_precision(quantization: str) -> Precision:
    """The base held as asked for, computed in what suits this machine."""
    return Precision(quantization, compute_dtype())


def load_base(base: LocatedBase, precision: Precision) -> Any:
    """The base's weights on this machine's device, quantised when the precision says so.

    Raises:
        InputError: The files are no causal language model, or are damaged.
        EnvironmentLacks: The memory does not hold them.
    """
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    compute = getattr(torch, precision.compute)
    try:
        with memory_errors():
            model = AutoModelForCausalLM.from_pretrained(
                base.path,
                dtype=compute,
                quantization_config=nf4_config(compute, _kind(base)) if precision.base == "nf4" else None,
                device_map={"": "cuda" if torch.cuda.is_available() else "cpu"},
                trust_remote_code=False,
            )
    except (OSError, *DAMAGED, SafetensorError, StrictDataclassError) as error:
        raise InputError(f"The base {base.id} can not be loaded: {first_line(error)}", how_to_mend(base)) from error
    if getattr(model, "is_loaded_in_4bit", False):
        _keep_cpu_arithmetic(model)
    return model


def nf4_config(compute: Any, kind: str) -> Any:
    """NF4 with double quantisation (Dettmers et al. 2023), computing in the torch dtype `compute`.

    `kind` is the base's model type or architecture: of some, not every matrix can be held in 4 bits.
    """
    from transformers import BitsAndBytesConfig

    whole = next((names for family, names in UNQUANTISED.items() if kind.lower().startswith(family)), None)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=whole,
    )


def _kind(base: LocatedBase) -> str:
    return str(read_config(base.id, base.path / "config.json").get("model_type"))


def _keep_cpu_arithmetic(model: Any) -> None:
    """On CPUs with avx512_bf16 a Linear4bit in eval mode repacks its weights and computes in bf16.

    The same numbers in both modes and on every CPU matter more here than that speed.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def _targets(wanted: Sequence[str]) -> list[str]:
    """The modules to adapt, under the names of families that join several into one (Phi-3, GLM-4) too."""
    return [*wanted, *(joined for joined, parts in JOINED.items() if parts <= set(wanted) and joined not in wanted)]


def add_lora(model: Any, settings: LoraSettings, seed: int) -> Any:
    """The model with a fresh adapter on it, only the adapter trainable. The seed decides its initial weights.

    Raises:
        InputError: The base has none of the target modules.
        EnvironmentLacks: The memory does not hold the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_loaded_in_4bit", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=_targets(settings.target_modules),
        # A name alone would also hit the towers for pictures and sound, which no text goes through.
        exclude_modules=TOWERS if any(re.fullmatch(TOWERS, name) for name, _ in model.named_modules()) else None,
        task_type="CAUSAL_LM",
        # Where embeddings and head are one matrix, they stay one when either is trained.
        ensure_weight_tying=bool(EMBEDDINGS & set(settings.target_modules))
        and bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False)),
    )
    torch.manual_seed(seed)
    try:
        with memory_errors():
            return get_peft_model(model, config)
    except (ValueError, re.error) as error:
        # Experts that are one tensor take none.
        remedy = "Give --lora-dropout 0." if "lora_dropout" in str(error) else "Correct lora.target_modules."
        raise InputError(f"LoRA does not fit the base: {first_line(error)}", remedy) from error


def adapter_changes_nothing(folder: Path) -> bool:
    """Whether a model with the adapter in a folder answers as the base does, told from its weights alone.

    LoRA adds B·A to a weight, and B begins as zero: where each product is zero, nothing was learnt. Weights of another
    kind (whole layers that were trained) count as a change.

    Raises:
        InputError: The weights can not be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, *DAMAGED, SafetensorError) as error:
        raise InputError(
            f"The adapter in {folder} can not be read: {first_line(error)}", "Train or download it again."
        ) from error
    names = [name for name in weights if LORA_B.search(name)]
    if any(not LORA_B.search(name) and not LORA_A.search(name) for name in weights):
        return False
    return not any(bool(weights[name].any()) and bool(weights[LORA_B.sub(r"\1A", name)].any()) for name in names)


def locate_adapter(name: str, revision: str | None = None) -> Path:
    """The folder of an adapter given by folder or Hub id; the latter is downloaded.

    Raises:
        InputError: Neither a folder with an adapter nor a Hub id.
        HubError: The Hub has no such adapter, or can not be reached.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / ADAPTER_CONFIG).is_file():
            raise InputError(
                f"{name} holds no adapter (no adapter_config.json).", "Name a folder that `pkt train` wrote."
            )
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"There is no adapter folder {name}.", "Make one with `pkt train`, or name a Hub id (owner/name)."
        )
    with after_saying(f"There is no folder {name}, and"), hub_errors(f"the adapter {name}"):
        return Path(hub().snapshot_download(name, revision=revision))


def may_be_quantized(adapter: Path) -> bool:
    """Whether the base of an adapter may be stored in a quantised form, which takes other libraries to load.

    It is told from files on this machine alone; a base that is not here yet may be anything.
    """
    try:
        named = read_json(adapter / ADAPTER_CONFIG)
        config = cached_config(named["base_model_name_or_path"], named.get("revision"))
        return config is None or bool(read_json(config).get("quantization_config"))
    except (InputError, LookupError, TypeError, AttributeError):
        # Damage is told where the adapter is loaded.
        return True


def load_adapter(folder: Path, quantization: str = "none") -> tuple[Any, Any, Precision]:
    """An adapter on its base, ready to answer: (model in eval mode, tokenizer, precision).

    Raises:
        InputError: The adapter is damaged or does not fit its base.
        EnvironmentLacks: The memory does not hold it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}.", "Train or download it again.")
    try:
        with memory_errors():
            config = PeftConfig.from_pretrained(folder)
            if not config.base_model_name_or_path:
                raise InputError(f"The adapter in {folder} names no base.", "Train or download it again.")
            base = locate_base(str(config.base_model_name_or_path), config.revision, quantization=quantization)
            check_tiny_base(base, folder)
            # Other tools save an adapter without the tokenizer, which is then its base's.
            tokenizer = load_tokenizer(folder if (folder / TOKENIZER_CONFIG).is_file() else base.path)
            precision = chosen_precision(quantization)
            model = PeftModel.from_pretrained(load_base(base, precision), folder)
            if precision.compute == "float16" and (found := _overflow(model, tokenizer)):
                del model
                precision = precision.widened(found)
                model = PeftModel.from_pretrained(load_base(base, precision), folder)
    except (*DAMAGED, SafetensorError, StrictDataclassError) as error:
        raise InputError(
            f"The adapter in {folder} can not be loaded: {first_line(error)}", "Train or download it again."
        ) from error
    if not all(bool(tensor.isfinite().all()) for name, tensor in model.named_parameters() if "lora_" in name):
        raise InputError(
            f"The adapter in {folder} holds weights that are no numbers: its training diverged.",
            "Train it again with a lower --learning-rate.",
        )
    if adapter_changes_nothing(folder):
        raise InputError(
            f"The adapter in {folder} changes nothing: with it, the base answers as without it.",
            "Train it again, longer or with a higher --learning-rate.",
        )
    return model.eval(), tokenizer, precision


def _overflow(model: Any, tokenizer: Any) -> str | None:
    """What does not fit fp16 when the model reads a text, if anything."""
    import torch

    ids = tokenizer(PROBE_TEXT, return_tensors="pt")["input_ids"].to(model.device)
    with torch.no_grad():
        return overflow(model.eval(), "float16", lambda probed: probed(input_ids=ids, use_cache=False).logits)


def check_tiny_base(base: LocatedBase, adapter: Path) -> None:
    """The tiny base changes with the toolkit; on another one than it was trained on, an adapter answers nonsense."""
    if base.id == TINY_BASE_ID and (adapter / MANIFEST).is_file():
        trained_on = read_manifest(adapter, "adapter").get("base", {}).get("content")
        if trained_on not in (None, base_hash(base)):
            raise InputError(
                f"The adapter in {adapter} was trained on the tiny base of another version of pkt.",
                "Train it again, or use that version.",
            )


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    from transformers import set_seed

    set_seed(seed)


def hardware() -> dict[str, Any]:
    """The device that computes, in words a reader knows."""
    import torch

    if torch.cuda.is_available():
        return {"device": "cuda", "name": torch.cuda.get_device_name(), "cores": os.cpu_count()}
    return {"device": "cpu", "name": _cpu_name(), "cores": os.cpu_count()}


def drawing_machine() -> dict[str, str]:
    """What decides which random numbers are drawn, beside the seed: only on the same are samples the same."""
    import torch

    return {"device": "cuda" if torch.cuda.is_available() else "cpu", "torch": torch.__version__.partition("+")[0]}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory_bytes() -> int:
    """Largest memory in use so far: of the GPU when there is one, else the process's resident set."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def precision_facts(precision: Precision) -> dict[str, str]:
    """The precision as a manifest holds it."""
    return {key: value for key, value in asdict(precision).items() if value is not None}
