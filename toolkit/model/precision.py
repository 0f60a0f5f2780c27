"""Whether a model's numbers fit a precision, found by running it once. Knows nothing of how the precision was chosen.

fp16 ends at 65,504, and the activations of some families (Gemma 3) do not: bf16 has the range of fp32 and needs no
such look, so it is only asked whether loss and gradients are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

# Half of what fp16 holds: what comes so near in one pass will not stay below it in all of them.
FP16_ROOM = 65504 / 2


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
