"""Batches of answers: sequences packed into one row, with logits and loss at the supervised positions only.

Packed sequences do not see each other, and logits are computed only where there is something to learn: the same
mathematics as padded batches with full logits, for a fraction of the work. The tests compare loss and gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.model.chat import Example
from toolkit.model.loading import autocast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

VALIDATION_BATCH = 8
# Relative to the largest logit. Sequences that see each other differ by a thousandth or more; the rest is rounding.
BORDER_TOLERANCE = 1e-4
# The same between passes of different shapes, which bf16 and fp16 round differently.
ROUNDED_TOLERANCE = 5e-2
# Logits that the loss works on at once: its other numbers take no more than 4 bytes for each of these.
AT_ONCE = 2**20


def collate(batch: Sequence[Example], device: torch.device) -> tuple[dict[str, torch.Tensor | bool], torch.Tensor]:
    """Pack examples into one row, `[1, tokens]`, that a causal model reads as separate sequences.

    Returns:
        The model's arguments, of which `logits_to_keep` indexes the position before each supervised token; and those
        tokens, `[supervised]`.
    """
    import torch

    ids: list[int] = []
    positions: list[int] = []
    keep: list[int] = []
    answers: list[int] = []
    for example in batch:
        keep += range(len(ids) + example.answer_start - 1, len(ids) + len(example.input_ids) - 1)
        answers += example.answer_ids
        positions += range(len(example.input_ids))
        ids += example.input_ids
    inputs: dict[str, torch.Tensor | bool] = {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.tensor([positions], device=device),
        "logits_to_keep": torch.tensor(keep, device=device),
        # With a cache, attention does not see the borders between sequences.
        "use_cache": False,
    }
    return inputs, torch.tensor(answers, device=device)


def answer_loss(logits: torch.Tensor, answers: torch.Tensor, supervised: int | None = None) -> torch.Tensor:
    """Cross-entropy in nats and float32, summed over the supervised tokens, divided by their number in the whole batch.

    PyTorch's own keeps the log-probabilities beside the logits and makes their gradient in a third place, which for
    256,000 words is most of the memory of a training step. Here the backward pass writes the gradient over the logits,
    a few rows at a time, as the Liger kernels do (Hsu et al. 2024).

    Args:
        logits: `[1, supervised, vocabulary]`, of any floating type; the backward pass overwrites them.
        answers: The supervised tokens, `[supervised]`.
        supervised: Supervised tokens of the whole batch; by default those given.
    """
    # Not `logits[0]`, whose gradient would be a copy.
    total: torch.Tensor = _cross_entropy_function().apply(logits.squeeze(0), answers)
    return total / (supervised or len(answers))


def mean_loss(model: PreTrainedModel, examples: Sequence[Example], at_once: int | None = None) -> float:
    """Mean cross-entropy of all supervised tokens of the examples, in nats, without dropout.

    `at_once` is the number of examples in one forward pass.
    """
    size = at_once or VALIDATION_BATCH
    total, count = 0.0, 0
    with _evaluating(model):
        for start in range(0, len(examples), size):
            inputs, answers = collate(examples[start : start + size], model.device)
            total += float(answer_loss(model(**inputs).logits, answers)) * len(answers)
            count += len(answers)
    return total / count


@cache
def _cross_entropy_function() -> Any:
    import torch

    class SummedCrossEntropy(torch.autograd.Function):
        """Forward keeps the logits and each row's normaliser; backward turns the logits into their gradient."""

        @staticmethod
        def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            tiles = torch.split(logits, _rows_at_once(logits))
            normalisers = torch.cat([tile.float().logsumexp(1) for tile in tiles])
            ctx.save_for_backward(logits, targets, normalisers)
            chosen = logits.gather(1, targets[:, None])[:, 0].float()
            return (normalisers - chosen).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None]:
            logits, targets, normalisers = ctx.saved_tensors
            rows = _rows_at_once(logits)
            tiles = zip(*(torch.split(each, rows) for each in (logits, targets, normalisers)), strict=True)
            for tile, right, normaliser in tiles:
                # In float32 these are the logits themselves.
                gradient = tile.float().sub_(normaliser[:, None]).exp_()
                gradient[torch.arange(len(right), device=right.device), right] -= 1
                tile.copy_(gradient.mul_(scale))
            return logits, None

    return SummedCrossEntropy


def _rows_at_once(logits: torch.Tensor) -> int:
    return max(1, AT_ONCE // logits.shape[1])


def packs_exactly(model: PreTrainedModel) -> bool:
    """Whether the model keeps packed sequences apart: a sequence has the same logits whatever precedes it.

    Families with a recurrent state, or without position ids, do not.
    """
    rows = []
    with _evaluating(model):
        for first in ([3, 4, 5, 6, 7], [9, 8, 7, 6, 5]):
            inputs, _ = collate([Example(first, 1), Example([10, 11, 12, 13, 14], 1)], model.device)
            rows.append(model(**inputs).logits[0, 4:])
    return _close(rows[0], rows[1], BORDER_TOLERANCE)


def counts_from_zero(model: PreTrainedModel) -> bool:
    """Whether the model itself would count positions from 0: RoBERTa's begin elsewhere."""
    with _evaluating(model):
        inputs, _ = collate([Example([3, 4, 5, 6, 7], 1)], model.device)
        given = model(**inputs).logits
        inputs.pop("position_ids")
        own = model(**inputs).logits
    # A model of NaN is refused later, with another message.
    return not bool(own.isfinite().all()) or _close(own, given, BORDER_TOLERANCE)


def packs_as_alone(model: PreTrainedModel, examples: Sequence[Example], compute: str) -> bool:
    """Whether these examples have the same logits packed into one row as each in a row of its own.

    Some families change their computation with the length of the row, or of its longest sequence: other rotary
    frequencies (Phi-3), chunks (Llama 4), selected attention (DeepSeek 3.2).

    Args:
        model: On its device.
        examples: At the lengths that matter.
        compute: Name of the torch dtype that the model computes in.
    """
    tolerance = BORDER_TOLERANCE if compute == "float32" else ROUNDED_TOLERANCE
    with _evaluating(model), autocast(compute):
        packed = model(**collate(examples, model.device)[0]).logits[0]
        for example in examples:
            alone = model(**collate([example], model.device)[0]).logits[0]
            if not _close(alone, packed[: len(alone)], tolerance):
                return False
            packed = packed[len(alone) :]
    return True


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Compute without dropout and without gradients inside the block."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _close(some: torch.Tensor, others: torch.Tensor, tolerance: float) -> bool:
    return bool((some.float() - others.float()).abs().max() <= tolerance * some.float().abs().max())
