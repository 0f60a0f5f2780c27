"""What a training begins with: a base with a fresh adapter, in a precision and in pieces that the machine holds.

Knows nothing of how it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from toolkit.core.errors import InputError, ToolkitError, first_line
from toolkit.core.recipe import Recipe
from toolkit.model import base as bases
from toolkit.model import chat, loading
from toolkit.model.memory import free_cache, memory_errors
from toolkit.training import micro_batch


def fitting_model(
    base: bases.LocatedBase, recipe: Recipe, examples: Sequence[chat.Example], note: Callable[[str], None]
) -> tuple[Any, loading.Precision, micro_batch.Fit]:
    """The base with a fresh adapter, in a precision and in pieces that one step on the longest examples fits.

    Raises:
        InputError: The base does not allow it.
        ToolkitError: The loss or its gradients are no numbers before any training.
        EnvironmentLacks: Not even one example fits the memory.
    """
    settings = recipe.training
    longest_first = sorted(examples, key=lambda example: len(example.input_ids), reverse=True)
    fit = micro_batch.Fit(settings, len(longest_first[0].input_ids), note)
    precision = loading.chosen_precision(settings.quantization)
    with _first_pass(base, precision):
        peft_model = _fresh(base, recipe, precision, fit)
        overflowed = _overflow(peft_model, precision, fit, longest_first)
    if overflowed and precision.compute == "float16":
        note(f"{overflowed} does not fit fp16 on the longest example: everything is computed in fp32.")
        precision = precision.widened(overflowed)
        del peft_model
        free_cache()
        peft_model = _fresh(base, recipe, precision, fit)
        overflowed = _overflow(peft_model, precision, fit, longest_first)
    if overflowed:
        raise ToolkitError(
            f"{overflowed[:1].upper()}{overflowed[1:]} of the base {base.id} is no number, before any training.",
            "Download the base again, or choose another.",
        )
    fit.measure(peft_model, longest_first, precision.compute)
    fit.check_packing(peft_model, longest_first, precision.compute)
    return peft_model, precision, fit


@contextmanager
def _first_pass(base: bases.LocatedBase, precision: loading.Precision) -> Iterator[None]:
    """What the libraries raise when a base is computed for the first time is something that it does not allow.

    Raises:
        InputError: In its place.
        EnvironmentLacks: It was a lack of memory.
    """
    try:
        with memory_errors():
            yield
    except loading.DAMAGED as error:
        held = " held in NF4" if precision.base == "nf4" else ""
        raise InputError(
            f"The base {base.id} can not be trained{held}: {type(error).__name__}: {first_line(error)}",
            "Give --quantization none, or choose another base." if held else "Choose another base.",
        ) from error


def _fresh(base: bases.LocatedBase, recipe: Recipe, precision: loading.Precision, fit: micro_batch.Fit) -> Any:
    from transformers import set_seed

    set_seed(recipe.seed)
    peft_model = loading.add_lora(loading.load_base(base, precision), recipe.lora, recipe.seed)
    fit.prepare(peft_model)
    return peft_model


def _overflow(
    peft_model: Any, precision: loading.Precision, fit: micro_batch.Fit, longest_first: Sequence[chat.Example]
) -> str | None:
    peft_model.train()
    return loading.overflow(
        peft_model,
        precision.compute,
        lambda probed: fit.gradients(probed, longest_first[:1], lambda loss: loss.backward()),
    )
