"""Cross-entropy over a large vocabulary that holds no second copy of the logits.

PyTorch's own keeps the log-probabilities beside the logits and makes their gradient in a third place; with 256,000
words that is most of what a training step holds. Here the backward pass writes the gradient over the logits, a few rows
at a time, as the Liger kernels do it (Hsu et al. 2024).
"""

from __future__ import annotations

from functools import cache
from typing import Any

# Logits that are worked on at once: what lies beside the logits is no larger than this many numbers of 4 bytes.
AT_ONCE = 2**20


def summed_cross_entropy(logits: Any, targets: Any) -> Any:
    """The sum over all rows of the cross-entropy, in nats and float32. Its backward pass overwrites `logits`.

    Args:
        logits: `[rows, vocabulary]`, of any floating type.
        targets: The right column of each row, `[rows]`.
    """
    return _function().apply(logits, targets)


def _rows_at_once(logits: Any) -> int:
    return max(1, AT_ONCE // int(logits.shape[1]))


@cache
def _function() -> Any:
    import torch

    class SummedCrossEntropy(torch.autograd.Function):
        """Forward keeps the logits and each row's normaliser; backward turns the logits into their gradient."""

        @staticmethod
        def forward(ctx: Any, logits: Any, targets: Any) -> Any:
            tiles = logits.split(_rows_at_once(logits))
            normalisers = torch.cat([tile.float().logsumexp(1) for tile in tiles])
            ctx.save_for_backward(logits, targets, normalisers)
            chosen = logits.gather(1, targets[:, None])[:, 0].float()
            return (normalisers - chosen).sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, scale: Any) -> Any:
            logits, targets, normalisers = ctx.saved_tensors
            rows = _rows_at_once(logits)
            tiles = zip(logits.split(rows), targets.split(rows), normalisers.split(rows), strict=True)
            for tile, right, normaliser in tiles:
                # In float32 these are the logits themselves.
                gradient = tile.float().sub_(normaliser[:, None]).exp_()
                gradient[torch.arange(len(right), device=right.device), right] -= 1
                tile.copy_(gradient.mul_(scale))
            return logits, None

    return SummedCrossEntropy
