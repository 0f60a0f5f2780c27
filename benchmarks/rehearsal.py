"""Memory of a training step of each shipped recipe on a GPU, rehearsed with fake tensors on none, beside the estimate.

Most memory at once, and whether every tensor is on its device. torch's fake tensors have a shape, a type and a device,
and no numbers. As torch without CUDA cannot run a backward pass on fake CUDA tensors, the GPU is a device of its own
kind here (`PrivateUse1`), which torch keeps for the whole process: rehearse in one that does nothing else, and before
its first backward pass.
`python benchmarks/rehearsal.py [RECIPE...]`; seconds of a processor for each line.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import click
import torch
from bitsandbytes.functional import quantize_4bit
from bitsandbytes.nn import Linear4bit
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.quantizers import AutoHfQuantizer

from toolkit.core.recipe import Recipe, load_recipe, recipe_names
from toolkit.model import loading, memory
from toolkit.model.base import config_of
from toolkit.model.chat import Example
from toolkit.model.doctor import KNOWN
from toolkit.model.loading import Precision
from toolkit.training.lessons import Batch
from toolkit.training.micro_batch import gradients_in_pieces, turn_checkpointing_on

DEVICE = "rehearsal:0"
# What CUDA computes in half precision under autocast, of what the families here call.
HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention")
# Libraries of torch that go when nobody holds them.
LIBRARIES: list[Any] = []


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Bytes of tensors on the GPU: `held` before a step, `peak` at most within it, with the optimizer's state."""

    held: int
    peak: int


def rehearse(
    config: PretrainedConfig,
    recipe: Recipe,
    precision: Precision,
    examples: Sequence[Example],
    checkpointing: bool = False,
) -> Rehearsal:
    """The memory of a step in which all examples go through the model at once.

    Args:
        config: Of the base.
        recipe: Its settings of the adapter and the optimizer count.
        precision: How the base is held, and what is computed in.
        examples: Their lengths and what they share count, not their tokens.
        checkpointing: Whether activations are computed twice.

    Raises:
        RuntimeError: Tensors that belong together are on different devices.
    """
    register_device()
    adapted = loading.add_lora(_without_weights(config, precision), recipe.lora, recipe.seed)
    if checkpointing:
        turn_checkpointing_on(adapted)
    with FakeTensorMode(allow_non_fake_inputs=True), Counter() as counter:
        _move(adapted)
        # AdamW's two numbers for each trained one, of four bytes or of one.
        width = torch.uint8 if recipe.training.optimizer == "paged_adamw_8bit" else torch.float32
        moments = [
            torch.empty_like(each, dtype=width) for each in adapted.parameters() if each.requires_grad for _ in range(2)
        ]
        held = counter.peak = counter.now
        with loading.autocast(precision.compute, DEVICE.partition(":")[0]):
            batch = Batch("loss", 1.0, examples)
            gradients_in_pieces(adapted.train(), [batch], len(examples), lambda loss: loss.backward())
        del moments
    return Rehearsal(held, counter.peak)


def _without_weights(config: PretrainedConfig, precision: Precision) -> PreTrainedModel:
    """The base on the meta device; in 4 bits, its layers replaced as transformers replaces them."""
    compute = getattr(torch, precision.compute)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=compute)
    if precision.base == "nf4":
        # Makes its tables, which have numbers.
        quantize_4bit(torch.ones(64, 64), quant_type="nf4", compress_statistics=True)
        quantizer = AutoHfQuantizer.from_config(loading.nf4_config(compute, config.model_type))
        quantizer.preprocess_model(model, device_map={"": DEVICE})
        quantizer.postprocess_model(model)
    return model


def _move(model: torch.nn.Module) -> None:
    """Put the weights on the device as fake tensors, those of 4-bit layers packed by bitsandbytes' fake kernels."""
    # One for each, however many modules share it.
    moved: dict[int, Any] = {}
    for module in model.modules():
        for name, each in module.named_parameters(recurse=False):
            if isinstance(module, Linear4bit) and name == "weight":
                full = torch.empty(module.out_features, module.in_features, device=DEVICE, dtype=module.compute_dtype)
                packed, state = quantize_4bit(full, quant_type="nf4", compress_statistics=True)
                # Not as its Params4bit, which cannot be made of a fake tensor.
                moved[id(each)] = torch.nn.Parameter(packed, requires_grad=False)
                moved[id(each)].quant_state = state
            elif id(each) not in moved:
                moved[id(each)] = torch.nn.Parameter(torch.empty_like(each, device=DEVICE), each.requires_grad)
            setattr(module, name, moved[id(each)])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty_like(buffer, device=DEVICE))


class Counter(TorchDispatchMode):
    """Counts the bytes of storages on the device from when an operation makes them until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if torch.is_tensor(each) and str(each.device) == DEVICE:
                storage = each.untyped_storage()
                if storage not in self.known:
                    self.known[storage] = True
                    self.add(storage.nbytes())
                    weakref.finalize(storage, self.add, -storage.nbytes())
        return result

    def add(self, count: int) -> None:
        """More bytes, or fewer."""
        self.now += count
        self.peak = max(self.peak, self.now)


@cache
def register_device() -> None:
    """Have torch know the device, with the half precision of its autocast and the attention that CUDA would choose."""
    kind = DEVICE.partition(":")[0]
    _setup_privateuseone_for_python_backend(kind)
    device: Any = getattr(torch, kind)
    device.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    # So that fake tensors are made of lists, and moved, without it.
    device.is_available = lambda: False
    device.get_rng_state = device.set_rng_state = lambda *_: None
    # Of both only a part has types.
    registry, keys = cast(Any, torch.library), cast(Any, torch._C.DispatchKey)
    operations, others = registry.Library("aten", "IMPL"), registry.Library("_", "IMPL")
    outside = torch._C.DispatchKeySet(keys.AutocastPrivateUse1)

    def in_half(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        half = torch.get_autocast_dtype(kind)

        def halved(each: Any) -> Any:
            return each.to(half) if torch.is_tensor(each) and each.dtype == torch.float32 else each

        with torch._C._ExcludeDispatchKeyGuard(outside):
            return operation(*map(halved, args), **{name: halved(each) for name, each in kwargs.items()})

    def attention(
        query: Any, key: Any, value: Any, mask: Any = None, dropout: float = 0.0, is_causal: bool = False, **more: Any
    ) -> Any:
        """The one that CUDA chooses under a mask: scores are not kept (Rabe and Staats 2021)."""
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, mask, True, dropout, is_causal, scale=more.get("scale"))[0]

    for name in HALF:
        operations.impl(name, partial(in_half, getattr(torch.ops.aten, name).default), "AutocastPrivateUse1")
    for key in ("PrivateUse1", "AutogradPrivateUse1"):
        operations.impl("scaled_dot_product_attention", attention, key)
    others.fallback(registry.fallthrough_kernel, "AutocastPrivateUse1")
    LIBRARIES.extend([operations, others])


# The table.

ANSWER = 5
# What the recipe's GPU computes in: a T4 has no bf16.
COMPUTE = {"gemma-3-1b": "bfloat16", "gemma-2-9b-24gb": "bfloat16", "smollm2-135m": "bfloat16"}


def usual_rows(count: int) -> list[Example]:
    """So many rows of the usual length, that share their opening."""
    shared = memory.TYPICAL_TOKENS - memory.OWN_TOKENS
    own = ([1000 * (row + 1) + token for token in range(memory.OWN_TOKENS)] for row in range(count))
    return [Example([*range(10, 10 + shared), *each], memory.TYPICAL_TOKENS - ANSWER) for each in own]


def line(recipe: Recipe, rows: int, checkpointing: bool) -> str:
    """A line of the table."""
    config, compute = config_of(recipe.base, KNOWN[recipe.base]), COMPUTE.get(recipe.name, "float16")
    held = "none" if recipe.training.quantization == "auto" else recipe.training.quantization
    found = rehearse(config, recipe, Precision(held, compute), usual_rows(rows), checkpointing)
    settings = recipe.training.model_copy(update={"gradient_checkpointing": "on" if checkpointing else "off"})
    asked = recipe.model_copy(update={"training": settings})
    estimate = memory.train_bytes(memory.size_of(config), asked, compute, held, memory.nodes_of(rows))
    figures = (found.held, found.peak, estimate - memory.PROCESS_BYTES)
    how = f"{rows}, checkpoints" if checkpointing else f"{rows}"
    return f"| {recipe.name} | {compute} | {how} | " + " | ".join(f"{count / 1e9:.1f}" for count in figures) + " |"


@click.command()
@click.argument("recipes", nargs=-1)
def main(recipes: tuple[str, ...]) -> None:
    """Print the table."""
    click.echo("| recipe | computed in | rows at once | GB before a step | most within it | estimated |")
    click.echo("|---|---|---:|---:|---:|---:|")
    for recipe in (load_recipe(name) for name in recipes or recipe_names()):
        if recipe.base in KNOWN:
            most = recipe.training.micro_batch_size
            most = recipe.training.batch_size if most == "auto" else most
            for rows, checkpointing in sorted({(1, True), (1, False), (most, False)}):
                click.echo(line(recipe, rows, checkpointing))


if __name__ == "__main__":
    main()
