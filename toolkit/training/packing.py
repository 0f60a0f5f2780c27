"""Batches of answers: sequences packed into one row, and the loss at the supervised positions only.

Packed sequences do not see each other, and logits are computed only where there is something to learn: the same
mathematics as padded batches with full logits, for a fraction of the work. Tests compare loss and gradients with that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from toolkit.model.chat import Example
from toolkit.model.loading import autocast
from toolkit.training.loss import summed_cross_entropy

IGNORED = -100
VALIDATION_BATCH = 8
# Of the largest logit. Where sequences see each other the difference is a thousandth and more, else rounding.
BORDER_TOLERANCE = 1e-4
# The same between passes of different shapes, which bf16 and fp16 round differently.
ROUNDED_TOLERANCE = 5e-2


def collate(batch: Sequence[Example]) -> dict[str, Any]:
    """Pack examples into one row, `[1, tokens]`, that a causal model reads as separate sequences.

    `logits_to_keep` indexes the position before each supervised token. `labels` are those tokens,
    `[1, supervised + 1]`, with one ignored entry in front because the Trainer counts labels from the second on.
    """
    import torch

    ids: list[int] = []
    positions: list[int] = []
    keep: list[int] = []
    labels: list[int] = [IGNORED]
    for example in batch:
        keep += range(len(ids) + example.answer_start - 1, len(ids) + len(example.input_ids) - 1)
        labels += example.answer_ids
        positions += range(len(example.input_ids))
        ids += example.input_ids
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "logits_to_keep": torch.tensor(keep),
        # Packing is exact only without a cache: with one, attention does not see the borders between sequences.
        "use_cache": False,
        "labels": torch.tensor([labels]),
    }


def answer_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """Cross-entropy in nats, summed over the supervised tokens and divided by their number in the effective batch.

    The logits can not be used after a backward pass through it.

    Args:
        outputs: Model outputs with `logits` of `[1, supervised, vocabulary]`.
        labels: As `collate` makes them.
        num_items_in_batch: Supervised tokens of the whole effective batch; those of this micro-batch by default.
    """
    targets = labels[0, 1:]
    total = summed_cross_entropy(outputs.logits[0], targets)
    return total / (num_items_in_batch if num_items_in_batch is not None else len(targets))


def packs_exactly(model: Any) -> bool:
    """Whether the model keeps packed sequences apart: a sequence has the same logits whatever stands before it.

    Families with a recurrent state, or without position ids, do not.
    """
    rows = []
    with _evaluating(model):
        for first in ([3, 4, 5, 6, 7], [9, 8, 7, 6, 5]):
            inputs = _unlabelled(model, [Example(first, 1), Example([10, 11, 12, 13, 14], 1)])
            rows.append(model(**inputs).logits[0, 4:].float())
    return _close(rows[0], rows[1], BORDER_TOLERANCE)


def counts_from_zero(model: Any) -> bool:
    """Whether positions that begin at 0 are those that the model would count itself: RoBERTa's begin elsewhere."""
    with _evaluating(model):
        inputs = _unlabelled(model, [Example([3, 4, 5, 6, 7], 1)])
        told = model(**inputs).logits
        inputs.pop("position_ids")
        itself = model(**inputs).logits
    # Of what is no number it is said elsewhere.
    return not bool(itself.isfinite().all()) or _close(itself, told, BORDER_TOLERANCE)


def packs_as_alone(model: Any, examples: Sequence[Example], compute: str) -> bool:
    """Whether these examples have the same logits packed into one row as each in a row of its own.

    Some families compute otherwise from a length of the row, or of its longest sequence, on: with other rotary
    frequencies (Phi-3), in chunks (Llama 4), with a choice of what is attended to (DeepSeek 3.2).

    Args:
        model: On its device.
        examples: At the lengths that matter.
        compute: Name of the torch dtype that the model computes in.
    """
    tolerance = BORDER_TOLERANCE if compute == "float32" else ROUNDED_TOLERANCE
    with _evaluating(model), autocast(compute):
        packed = model(**_unlabelled(model, examples)).logits[0]
        for example in examples:
            alone = model(**_unlabelled(model, [example])).logits[0]
            if not _close(alone, packed[: len(alone)], tolerance):
                return False
            packed = packed[len(alone) :]
    return True


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Inside, the model computes without dropout and without gradients."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _unlabelled(model: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """What the model is called with for these examples in one row."""
    inputs = to_device(collate(examples), model.device)
    inputs.pop("labels")
    return inputs


def _close(some: Any, others: Any, tolerance: float) -> bool:
    return bool((some.float() - others.float()).abs().max() <= tolerance * some.float().abs().max())


def to_device(inputs: dict[str, Any], device: Any) -> dict[str, Any]:
    """A batch with its tensors on a device."""
    return {name: value.to(device) if hasattr(value, "to") else value for name, value in inputs.items()}


def mean_loss(model: Any, examples: Sequence[Example], at_once: int | None = None) -> float:
    """Mean cross-entropy of all supervised tokens of the examples, in nats, without dropout.

    `at_once` is the number of examples in one forward pass.
    """
    size = at_once or VALIDATION_BATCH
    total, count = 0.0, 0
    with _evaluating(model):
        for start in range(0, len(examples), size):
            batch = to_device(collate(examples[start : start + size]), model.device)
            labels = batch.pop("labels")
            supervised = labels.shape[1] - 1
            total += float(answer_loss(model(**batch), labels)) * supervised
            count += supervised
    return total / count
