"""Tokenizer, base, 4 bits, precision and fresh adapter: how a base gets into memory and whether its numbers fit.

fp16 ends at 65,504, and the activations of some families (Gemma 3) do not: one pass finds out, and fp32 replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError, library_errors
from toolkit.core.recipe import LoraSettings
from toolkit.model.base import CONFIG, LocatedBase, how_to_mend, published_quantization, read_config
from toolkit.model.memory import (
    EMBEDDINGS,
    TOWERS,
    compute_dtype,
    device_kind,
    memory_errors,
    modules_trained_whole,
    sizes,
    target_names,
)

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

# Read once to see whether a model's numbers fit fp16: the largest stand at the first token and at signs.
PROBE_TEXT = "A small red fox with six tails. 꼬리가 여섯인 작은 여우: 1, 2, 3…\n\n"
# Half of what fp16 holds: what comes so near in one pass will not stay below it in all of them.
FP16_ROOM = 65504 / 2
# Kept whole by family, its head among them. Gemma 3n clamps these small ones in its forward pass.
UNQUANTISED = {"gemma3n": ["lm_head", "prediction_coefs", "correction_coefs"]}


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are held.

    Attributes:
        base: `none` (not quantised), `nf4`, or how a base is quantised where it is published.
        compute: Name of the torch dtype that is computed in.
        kernels: What multiplied float32 matrices on a CPU while training: oneDNN, MKL or another BLAS.
        overflowed: What did not fit fp16, where that is why it is computed in fp32.
    """

    base: str
    compute: str
    kernels: str | None = None
    overflowed: str | None = None

    def widened(self, overflowed: str) -> Precision:
        """The same in fp32, which holds every number that fp16 and bf16 hold."""
        return replace(self, compute="float32", overflowed=overflowed)


def precision_facts(precision: Precision) -> dict[str, str]:
    """The precision for a manifest."""
    return {key: value for key, value in asdict(precision).items() if value is not None}


def chosen_precision(base: LocatedBase, quantization: str, compute: str = "auto") -> Precision:
    """The base quantised as it is published, else held as asked for; computed in what is asked for or suits best.

    Evaluating and answering compute in float32 on a CPU, whatever was trained in: so do a reader's three lines.
    """
    published = published_quantization(read_config(base.id, base.path / CONFIG))
    return Precision(published or quantization, compute_dtype() if compute == "auto" else compute)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder of a base or an adapter.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    with library_errors(f"{folder} holds no tokenizer that can be read", "Download it again, or choose another."):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load_base(base: LocatedBase, precision: Precision) -> PreTrainedModel:
    """The base's weights on this machine's device, quantised when the precision says so.

    Raises:
        InputError: The files are no causal language model, or are damaged.
        EnvironmentLacks: The memory does not hold them.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.quantizers import AutoHfQuantizer

    config = read_config(base.id, base.path / CONFIG)
    kind, published, compute = config.model_type, published_quantization(config), getattr(torch, precision.compute)
    remedy = how_to_mend(base)
    if published:
        remedy = f"{remedy} Or install what {published} needs."
    # A None would overrule what the base itself says.
    held = {"quantization_config": nf4_config(compute, kind)} if precision.base == "nf4" and not published else {}
    with library_errors(f"The base {base.id} cannot be loaded", remedy), memory_errors():
        # Of a kind that it does not know, transformers would read the quantised numbers as weights.
        if published and not AutoHfQuantizer.supports_quant_method(config.quantization_config):
            raise InputError(f"The base {base.id} is published in {published}, unknown to transformers.", remedy)
        model = AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=compute,
            **held,
            device_map={"": device_kind()},
            trust_remote_code=False,
        )
    if getattr(model, "is_loaded_in_4bit", False):
        _keep_cpu_arithmetic(model)
    return model


def nf4_config(compute: torch.dtype, kind: str) -> BitsAndBytesConfig:
    """NF4 with double quantisation (Dettmers et al. 2023), computing in a torch dtype.

    `kind` is the base's model type or architecture: some families have matrices that 4 bits cannot hold.
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


def _keep_cpu_arithmetic(model: PreTrainedModel) -> None:
    """Keep the same numbers in both modes and on every CPU.

    A Linear4bit in eval mode repacks its weights and computes in bf16 on CPUs with avx512_bf16; no public switch.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def add_lora(model: PreTrainedModel, settings: LoraSettings, seed: int) -> PeftModel:
    """The model with a fresh adapter on it, only the adapter trainable. The seed decides its initial weights.

    Raises:
        InputError: The base has none of the target modules, or cannot train `lora.modules_to_save`.
        EnvironmentLacks: The memory does not hold the adapter.
    """
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    whole = _names_for_peft(model, settings)
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    trained = {*settings.target_modules, *(name.rpartition(".")[2] for name in whole)}
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=target_names(settings),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        modules_to_save=whole or None,
        # A name alone would also hit the towers for pictures and sound, which no text goes through.
        exclude_modules=TOWERS if any(re.fullmatch(TOWERS, name) for name, _ in model.named_modules()) else None,
        task_type="CAUSAL_LM",
        # Where embeddings and head are one matrix, they stay one when either is trained.
        ensure_weight_tying=bool(EMBEDDINGS & trained)
        and bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False)),
    )
    torch.manual_seed(seed)
    # Experts that are one tensor take no dropout, and some layers no DoRA.
    remedy = "Correct `lora.target_modules`, or give `lora.dropout=0` or `lora.use_dora=False` where that is refused."
    with library_errors("LoRA does not fit the base", remedy), memory_errors():
        adapted = get_peft_model(model, config)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                # peft widens LoRA alone: whole modules in half precision would lose the optimizer's small steps.
                parameter.data = parameter.data.float()
        return adapted


def shard(model: PeftModel) -> None:
    """Divide the frozen weights among the processes that train together, by PyTorch's FSDP2 (`fully_shard`).

    The adapter stays whole in each. A pass gathers one layer after the other from all processes, so all of them must
    take the same passes. Numbers are not changed, those of 4 bits neither.

    Raises:
        InputError: The base does not name its layers.
    """
    from torch.distributed.fsdp import fully_shard

    base = model.get_base_model()
    names = set(getattr(base, "_no_split_modules", None) or ())
    layers = [module for module in base.modules() if type(module).__name__ in names]
    if not layers:
        raise InputError("The base does not name its layers, so that it cannot be divided.", "Train without `shard`.")
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for module in (*layers, base):
        # Nothing stays gathered after a pass: saving a checkpoint, which one process does alone, gives it back too.
        fully_shard(module, reshard_after_forward=True, ignored_params=trained)


def frozen_bytes(model: torch.nn.Module) -> int:
    """Memory of the weights that are not trained, in this process alone."""
    frozen = (parameter for parameter in model.parameters() if not parameter.requires_grad)
    return sum(weights.nbytes for weights in (getattr(each, "_local_tensor", each) for each in frozen))


def _names_for_peft(model: PreTrainedModel, settings: LoraSettings) -> list[str]:
    """Modules that are trained whole, by the names given where peft takes the same by them, else by their paths.

    peft compares the ends of letters: by `norm` it would train `input_layernorm` too.
    """
    modules = sizes(model)
    quantised = [path for path, module in model.named_modules() if type(module).__name__ == "Linear4bit"]
    chosen, names = modules_trained_whole(settings, modules, quantised), settings.modules_to_save or []
    # A copy, since peft changes its list.
    return list(names) if chosen == [path for path in modules if path.endswith(tuple(names))] else chosen


# Whether the numbers fit.


def nan_error() -> InputError:
    """The error for a model whose probabilities are NaN."""
    return InputError(
        "The model's probabilities are NaN or infinite: the weights of its adapter or base are broken.",
        "Train the adapter again or download it again.",
    )


def autocast(compute: str, device: str | None = None) -> AbstractContextManager[object]:
    """As the Trainer computes in half precision: matrix products in the torch dtype of this name."""
    import torch

    device = device or device_kind()
    # No CPU computes in fp16 here.
    if compute == "float32" or (device, compute) == ("cpu", "float16"):
        return nullcontext()
    return torch.autocast(device, dtype=getattr(torch, compute))


def overflow(model: PreTrainedModel, compute: str, run_once: Callable[[Any], torch.Tensor]) -> str | None:
    """What does not fit the precision when the model runs once: a module, the loss or the gradients; None: all fits.

    Args:
        model: Left without gradients, and random numbers drawn meanwhile do not count.
        compute: Name of the torch dtype that it computes in.
        run_once: Runs the model it is given, forward only or forward and backward; returns the logits or losses.
    """
    import torch

    found: list[str] = []
    watched = _watching_outputs(model, found) if compute == "float16" else nullcontext()
    with torch.random.fork_rng(), watched, autocast(compute):
        result = run_once(model)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    finite = all(bool(gradient.isfinite().all()) for gradient in gradients)
    model.zero_grad(set_to_none=True)
    if found:
        return found[0]
    if not bool(result.isfinite().all()):
        return "the loss"
    return None if finite else "the gradients"


def overflow_on_text(model: PreTrainedModel, compute: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What does not fit the precision when the model reads a short text; None: all fits."""
    import torch

    ids = tokenizer(PROBE_TEXT, return_tensors="pt")["input_ids"].to(model.device)
    with memory_errors(), torch.no_grad():
        return overflow(model.eval(), compute, lambda probed: probed(input_ids=ids, use_cache=False).logits)


@contextmanager
def _watching_outputs(model: PreTrainedModel, found: list[str]) -> Iterator[None]:
    """Name in `found` the modules whose fp16 output is out of range or not finite, in the order they ran."""
    import torch

    def watch(name: str) -> Callable[..., None]:
        def look(_module: object, _inputs: object, output: object) -> None:
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
