"""Answers told apart by the state after a description: a loss beside that of names, and the centroids that stay of it.

Each answer has a proxy, a vector that is learnt with the adapter and thrown away (Movshovitz-Attias et al. 2017). The
loss is a softmax over scaled cosines to all proxies (Zhai & Wu 2019), at no more tokens than the names take.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError
from toolkit.model import centroids
from toolkit.model.chat import Example
from toolkit.model.loading import autocast
from toolkit.model.memory import halving, memory_errors
from toolkit.model.prompts import Reader, shared_opening
from toolkit.training.packing import row_order

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Standard deviation of a proxy's first numbers, and its learning rate as a multiple of the adapter's.
SPREAD, FASTER = 0.02, 10
# Prompts that are read together for the centroids.
TOGETHER = 32


def first_proxies(model: PreTrainedModel, answers: int, seed: int) -> torch.nn.Parameter:
    """A proxy for each answer, `[answers, hidden]`, drawn by the seed.

    Raises:
        InputError: The model does not show the states that proxies are compared with.
    """
    import torch

    with centroids.states(model) as seen, torch.random.fork_rng(), torch.no_grad():
        model(input_ids=torch.tensor([[3, 4]], device=model.device), use_cache=False)
    if not seen:
        raise InputError(
            "The base computes its logits around its output embeddings, so that no state can be contrasted.",
            "Give `training.contrast=0`, or choose another base.",
        )
    drawn = torch.randn(answers, seen[0].shape[-1], generator=torch.Generator().manual_seed(seed))
    return torch.nn.Parameter(SPREAD * drawn.to(model.device))


def contrast_loss(
    states: torch.Tensor, batch: Sequence[Example], labels: Sequence[int], proxies: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy in nats of the right answers among all, by the states before their first tokens, summed.

    Args:
        states: Of the supervised positions, `[1, supervised, hidden]`, as `packing.collate` orders them.
        batch: The examples.
        labels: Of each example, the number of its proxy.
        proxies: `[answers, hidden]`.
    """
    import torch

    order = row_order(batch)
    first = list(accumulate((len(batch[number].answer_ids) for number in order[:-1]), initial=0))
    right = torch.tensor([labels[number] for number in order], device=proxies.device)
    scores = centroids.scores(states[0, first], proxies)
    return torch.nn.functional.cross_entropy(scores, right, reduction="sum")


def states_after(model: PreTrainedModel, prompts: Sequence[list[int]], compute: str) -> torch.Tensor:
    """The state after each prompt, `[prompts, hidden]` in float32.

    Args:
        model: In eval mode.
        prompts: Token ids.
        compute: Name of the torch dtype that the model computes in.
    """
    import torch

    reader = Reader(model, shared_opening(prompts))

    def read(at_once: int) -> torch.Tensor:
        parts = (reader.read(prompts[first : first + at_once]).states for first in range(0, len(prompts), at_once))
        return torch.cat([part.float().cpu() for part in parts if part is not None])

    with memory_errors(), autocast(compute):
        return halving(TOGETHER, read)[0]
