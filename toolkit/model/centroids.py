"""Identification without reading names: a model's state after a description, compared with a mean state of each answer.

The state is what enters the output embeddings at the last token of a prompt, the one that predicts a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import read_json
from toolkit.core.layout import ANSWERS, CENTROIDS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TENSOR = "centroids"
# What a cosine counts for, in nats: the inverse of the temperature of the normalised softmax (Zhai & Wu 2019).
SCALE = 20.0
AGAIN = "Download the adapter again, or train it again."


@contextmanager
def states(model: PreTrainedModel | None) -> Iterator[list[torch.Tensor]]:
    """A list to which each pass inside the block adds what enters the output embeddings, `[batch, kept, hidden]`.

    It stays empty without a model, and where one has no such layer or computes its logits around it.
    """
    seen: list[torch.Tensor] = []
    head = None if model is None else model.get_output_embeddings()
    if head is None:
        yield seen
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()


def scores(states: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Natural-log scores of answers, up to a constant of each prompt, in float32: their softmax gives shares.

    Args:
        states: `[prompts, hidden]`.
        centroids: `[answers, hidden]`.

    Returns:
        `SCALE` times the cosine, `[prompts, answers]`.

    Raises:
        InputError: The centroids are those of another base.
    """
    from torch.nn.functional import normalize

    if states.shape[1] != centroids.shape[1]:
        raise InputError(
            f"{CENTROIDS} has states of {centroids.shape[1]} numbers, and the base has {states.shape[1]}.", AGAIN
        )
    wanted = centroids.to(states.device).float()
    return SCALE * normalize(states.float(), dim=1) @ normalize(wanted, dim=1).T


def read_centroids(folder: Path) -> torch.Tensor | None:
    """The centroids of an adapter, `[answers, hidden]` in float32, in the order of its answers; None where it has none.

    Raises:
        InputError: The file is damaged, or holds other answers than the adapter.
    """
    from safetensors.torch import load_file

    file = folder / CENTROIDS
    if not file.is_file():
        return None
    with library_errors(f"{file} cannot be read", AGAIN):
        found: torch.Tensor | None = load_file(file).get(TENSOR)
    answers = read_json(folder / ANSWERS) if (folder / ANSWERS).is_file() else []
    if found is None or found.dim() != 2 or len(found) != len(answers) or not bool(found.isfinite().all()):
        raise InputError(f"{file} does not hold a state for each of the {len(answers)} answers.", AGAIN)
    return found.float()
