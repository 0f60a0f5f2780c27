"""Batches of answers: sequences packed into one row, and the loss at the supervised positions only.

Packed sequences do not see each other, and logits are computed only where there is something to learn: the same
mathematics as padded batches with full logits, for a fraction of the work. Tests compare loss and gradients with that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toolkit.chat import Example

IGNORED = -100
VALIDATION_BATCH = 8


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

    Args:
        outputs: Model outputs with `logits` of `[1, supervised, vocabulary]`.
        labels: As `collate` makes them.
        num_items_in_batch: Supervised tokens of the whole effective batch; those of this micro-batch by default.
    """
    from torch.nn.functional import cross_entropy

    targets = labels[0, 1:]
    total = cross_entropy(outputs.logits[0].float(), targets, reduction="sum")
    return total / (num_items_in_batch if num_items_in_batch is not None else len(targets))


def mean_loss(model: Any, examples: Sequence[Example]) -> float:
    """Mean cross-entropy of all supervised tokens of the examples, in nats, without dropout."""
    import torch

    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(examples), VALIDATION_BATCH):
            batch = collate(examples[start : start + VALIDATION_BATCH])
            labels = batch.pop("labels").to(model.device)
            tensors = {key: value.to(model.device) for key, value in batch.items() if key != "use_cache"}
            supervised = labels.shape[1] - 1
            total += float(answer_loss(model(**tensors, use_cache=False), labels)) * supervised
            count += supervised
    model.train(was_training)
    return total / count
