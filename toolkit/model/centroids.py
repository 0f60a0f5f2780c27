"""Identification without reading names: a description's state, compared with each answer's mean state (Rocchio 1971).

The state of a language model is what enters its output embeddings at the last token of a prompt, the one that predicts
a name; that of a sentence encoder is its embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import read_json, write_json
from toolkit.core.layout import ANSWERS, CENTROIDS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TENSOR = "centroids"
# What a cosine counts for, in nats: the inverse of the temperature of the normalised softmax (Zhai & Wu 2019).
SCALE = 20.0
AGAIN = "Download the folder again, or train it again."


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
    """Natural-log scores of answers, up to a constant of each description, in float32: their softmax gives shares.

    Args:
        states: `[descriptions, hidden]`.
        centroids: `[answers, hidden]`.

    Returns:
        `SCALE` times the cosine, `[descriptions, answers]`.

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


@dataclass(frozen=True, slots=True)
class Centroids:
    """Answers, and the centroid of each: `[answers, hidden]` in float32."""

    answers: list[str]
    vectors: torch.Tensor

    def scores(self, states: torch.Tensor | None, candidates: Sequence[str]) -> torch.Tensor:
        """Log of each candidate's share among the answers, `[descriptions, candidates]`; -inf for one that is none.

        Raises:
            InputError: The centroids are those of another base, or its states are NaN or None.
        """
        from torch.nn.functional import pad

        if states is None or not bool(states.isfinite().all()):
            raise InputError("The model shows no state to compare with its centroids.", f"Remove {CENTROIDS}.")
        places = {answer: place for place, answer in enumerate(self.answers)}
        known = scores(states, self.vectors).double().log_softmax(1)
        return pad(known, (0, 1), value=-math.inf)[:, [places.get(each, len(places)) for each in candidates]]


def centroids_of(states: torch.Tensor, answers: Sequence[str]) -> Centroids:
    """The distinct answers, sorted, each with the mean of its states at unit length, itself at unit length.

    Args:
        states: Of descriptions, `[descriptions, hidden]`.
        answers: The answer of each description.
    """
    import torch
    from torch.nn.functional import normalize

    names, units = sorted(set(answers)), normalize(states.float(), dim=1)
    numbers = {name: number for number, name in enumerate(names)}
    owners = torch.tensor([numbers[answer] for answer in answers])
    sums = torch.zeros(len(names), units.shape[1]).index_add(0, owners, units)
    return Centroids(names, normalize(sums, dim=1))


def write_centroids(folder: Path, centroids: Centroids) -> None:
    """Write centroids, and the answers that they are of, into a folder."""
    from safetensors.torch import save_file

    write_json(folder / ANSWERS, centroids.answers)
    save_file({TENSOR: centroids.vectors.contiguous()}, folder / CENTROIDS, metadata={"format": "pt"})


def read_centroids(folder: Path) -> Centroids | None:
    """The answers and centroids in a folder; None where it has no centroids.

    Raises:
        InputError: The file is damaged, or holds others than those of the answers.
    """
    from safetensors.torch import load_file

    file = folder / CENTROIDS
    if not file.is_file():
        return None
    with library_errors(f"{file} cannot be read", AGAIN):
        found = load_file(file).get(TENSOR)
    answers = list(dict.fromkeys(read_json(folder / ANSWERS))) if (folder / ANSWERS).is_file() else []
    if found is None or found.dim() != 2 or len(found) != len(answers) or not bool(found.isfinite().all()):
        raise InputError(f"{file} does not hold a state for each of the {len(answers)} answers.", AGAIN)
    return Centroids(answers, found.float())
