"""Tokenizer, base, 4 bits, precision and fresh adapter: how weights get into memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import InputError, first_line
from toolkit.core.recipe import LoraSettings
from toolkit.model.base import LocatedBase, how_to_mend, read_config
from toolkit.model.memory import compute_dtype, memory_errors

# What is read once to see whether a model's numbers fit fp16: the largest stand at the first token and at signs.
PROBE_TEXT = "A small red fox with six tails. 꼬리가 여섯인 작은 여우: 1, 2, 3…\n\n"
JOINED = {"qkv_proj": {"q_proj", "k_proj", "v_proj"}, "gate_up_proj": {"gate_proj", "up_proj"}}
TOWERS = r".*\b(vision|audio)\w*\..*"
# What the libraries raise on files that are not what they should be.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError)
# Whole by family, its head among them. Gemma 3n clamps these small ones in its forward pass.
UNQUANTISED = {"gemma3n": ["lm_head", "prediction_coefs", "correction_coefs"]}
EMBEDDINGS = {"embed_tokens", "lm_head"}
# Half of what fp16 holds: what comes so near in one pass will not stay below it in all of them.
FP16_ROOM = 65504 / 2


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


def precision_facts(precision: Precision) -> dict[str, str]:
    """The precision as a manifest holds it."""
    return {key: value for key, value in asdict(precision).items() if value is not None}


def autocast(compute: str) -> AbstractContextManager[Any]:
    """As the Trainer computes on a GPU: matrix products in the torch dtype of this name."""
    import torch

    if compute == "float32" or not torch.cuda.is_available():
        return nullcontext()
    return torch.autocast("cuda", dtype=getattr(torch, compute))


@contextmanager
def _watching_outputs(model: Any, found: list[str]) -> Iterator[None]:
    """Name in `found` the modules that give fp16 numbers out of range, or none at all, in the order they ran."""
    import torch

    def watch(name: str) -> Callable[[Any, Any, Any], None]:
        def look(_module: Any, _inputs: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) and output else output
            if not torch.is_tensor(tensor) or not tensor.is_floating_point() or not tensor.numel():
                return
            largest = float(tensor.detach().abs().max())
            if not largest < (FP16_ROOM if tensor.dtype == torch.float16 else float("inf")):
                found.append(name.removeprefix("base_model.model."))

        return look

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def overflow(model: Any, compute: str, gradients: Callable[[Any], Any]) -> str | None:
    """What does not fit the precision when the model runs once: a module, the loss or the gradients; None: all fits.

    Args:
        model: Left without gradients, and random numbers drawn meanwhile do not count.
        compute: Name of the torch dtype that it computes in.
        gradients: Runs the model it is given, forward and backward or only forward, and returns the loss or logits.
    """
    import torch

    found: list[str] = []
    with (
        torch.random.fork_rng(),
        _watching_outputs(model, found) if compute == "float16" else nullcontext(),
        autocast(compute),
    ):
        result = gradients(model)
    norms = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    sane = all(bool(gradient.isfinite().all()) for gradient in norms)
    model.zero_grad(set_to_none=True)
    if found:
        return found[0]
    if not bool(result.isfinite().all()):
        return "the loss"
    return None if sane else "the gradients"
