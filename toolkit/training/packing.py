"""Batches of answers: a trie of their prompts in one row, with logits and loss at the supervised positions only.

What prompts share is read once, examples do not see each other, and logits are computed only where there is something
to learn: the same mathematics as padded batches with full logits, for a fraction of the work. The tests compare loss
and gradients.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError, library_errors
from toolkit.model.chat import Example
from toolkit.model.loading import autocast
from toolkit.model.memory import lacks_memory
from toolkit.model.trie import attend_in_blocks, attention_mask, key_blocks, lay_out, sees_all

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

VALIDATION_BATCH = 8
# Of so many nodes a row is padded to a multiple, so that shapes come again and the memory of old ones fits new ones.
MULTIPLE = 32
# Relative to the largest logit. Sequences that see each other differ by a thousandth or more; the rest is rounding.
BORDER_TOLERANCE = 1e-4
# The same between passes of different shapes, which bf16 and fp16 round differently.
ROUNDED_TOLERANCE = 5e-2
# Logits that the loss works on at once: its other numbers take no more than 4 bytes for each of these.
AT_ONCE = 2**20


def collate(batch: Sequence[Example], model: PreTrainedModel) -> tuple[dict[str, Any], torch.Tensor]:
    """Lay examples out as one row, `[1, nodes]`, in which a causal model reads what prompts share once.

    One example alone is a plain row, which needs neither a mask nor positions.

    Returns:
        The model's arguments, of which `logits_to_keep` indexes the node before each supervised token; and those
        tokens, `[supervised]`.
    """
    import torch

    order = [batch[number] for number in row_order(batch)]
    rows = lay_out(
        [example.input_ids for example in order],
        sys.maxsize,
        model.device,
        # No node is asked twice: PyTorch adds up the gradients of one index in an order of its own.
        shared=[example.answer_start - 1 for example in order],
        # A family may compute otherwise in a longer row.
        multiple=MULTIPLE if len(order) > 1 else 1,
    )
    asked = [
        nodes[example.answer_start - 1 : len(example.input_ids) - 1]
        for nodes, example in zip(rows.before, order, strict=True)
    ]
    answers = [token for example in order for token in example.answer_ids]
    inputs = {"input_ids": rows.tokens, "logits_to_keep": torch.cat(asked), "use_cache": False}
    if len(order) > 1:
        inputs |= {"position_ids": rows.depths, "attention_mask": attention_mask(rows.visible, model.dtype)}
        if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
            attend_in_blocks()
            inputs["key_blocks"] = key_blocks(rows.visible, model.dtype)
    return inputs, torch.tensor(answers, device=model.device)


def row_order(batch: Sequence[Example]) -> list[int]:
    """Numbers of the examples in the order in which `collate` lays them out."""
    return sorted(range(len(batch)), key=lambda number: batch[number].input_ids)


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


def summed_loss(model: PreTrainedModel, examples: Sequence[Example], at_once: int = VALIDATION_BATCH) -> float:
    """Cross-entropy in nats, summed over all supervised tokens of the examples, without dropout.

    `at_once` is the number of examples in one forward pass.
    """
    total = 0.0
    with _evaluating(model):
        for start in range(0, len(examples), at_once):
            inputs, answers = collate(examples[start : start + at_once], model)
            total += float(answer_loss(model(**inputs).logits, answers)) * len(answers)
    return total


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
    """Whether the model keeps the examples of a row apart: one has the same logits whatever the others are.

    Families with a recurrent state, or that take neither mask nor positions, do not.
    """
    probe = Example([3, 4, 10, 11, 12, 13], 3)
    try:
        # Families that know no such mask say so each in its way.
        with library_errors("The model reads no rows of several", "Let it read each alone."), _evaluating(model):
            rows = [
                model(**collate([Example([3, 4, *other], 3), probe], model)[0]).logits[0, 3:]
                for other in ([5, 6, 7, 8], [5, 9, 3, 6])
            ]
    except InputError as error:
        if error.__cause__ is not None and lacks_memory(error.__cause__):
            raise error.__cause__ from None
        return False
    # What overflows is found later, with another message.
    return not bool(rows[0].isfinite().all()) or _close(rows[0], rows[1], BORDER_TOLERANCE)


def packs_as_alone(model: PreTrainedModel, examples: Sequence[Example], compute: str) -> bool:
    """Whether the first and the last of these examples have the same logits in one row of all as each alone.

    Some families change their computation with the length of the row, or of its longest sequence: other rotary
    frequencies (Phi-3), chunks (Llama 4), selected attention (DeepSeek 3.2). Others do not count positions from 0
    (RoBERTa), or have windows, which the mask of a row would open.

    Args:
        model: On its device.
        examples: At the lengths that matter: the longest first, the shortest last.
        compute: Name of the torch dtype that the model computes in.
    """
    if not sees_all(model, max(len(example.input_ids) for example in examples)):
        return False
    tolerance = BORDER_TOLERANCE if compute == "float32" else ROUNDED_TOLERANCE
    order = [examples[number] for number in row_order(examples)]
    with _evaluating(model), autocast(compute):
        packed = model(**collate(order, model)[0]).logits[0]
        for example in order:
            here, packed = packed.split([len(example.answer_ids), len(packed) - len(example.answer_ids)])
            if example in (examples[0], examples[-1]):
                alone = model(**collate([example], model)[0]).logits[0]
                if not _close(alone, here, tolerance):
                    return False
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
