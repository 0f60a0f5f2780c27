"""Names that are new by construction: while one is drawn, what leads along a known name is less likely, and none ends.

To forbid the end of known names alone makes `Squirtlesystem`: the model is led to the end and then not let out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from toolkit.core.recipe import DecodingSettings
from toolkit.model import generate
from toolkit.model.chat import end_of_turn_ids
from toolkit.model.generate import Generated
from toolkit.model.prompts import Prompts
from toolkit.model.rank import encode_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

DISCOUNT = 6.0
"""Nats off each next token of a known name that was begun. A trained adapter is so sure of the names that it learnt
that their next token often has 0.99 of the probability; divided by 400 (6 nats) it is one among others."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names that may not be drawn.

    Attributes:
        following: The tokens with which known names go on, by the tokens so far, at least one.
        spellings: The names without regard to case.
    """

    following: dict[tuple[int, ...], list[int]]
    spellings: frozenset[str]


def known_names(
    tokenizer: PreTrainedTokenizerBase, names: Sequence[str], encoded: Sequence[Sequence[int]] | None = None
) -> KnownNames:
    """The tree of names, in the tokens of `rank.encode_answers`, which are given where somebody has them."""
    following: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for tokens in encode_answers(tokenizer, names) if encoded is None else encoded:
        for length in range(1, len(tokens)):
            following[tuple(tokens[:length])].add(tokens[length])
    return KnownNames({said: sorted(next_) for said, next_ in following.items()}, frozenset(map(str.casefold, names)))


def sample_new(
    prompts: Prompts,
    tokenizer: PreTrainedTokenizerBase,
    settings: DecodingSettings,
    count: int,
    seeds: Sequence[int],
    known: KnownNames,
) -> list[list[Generated]]:
    """As `generate.sample`, but no name that ends is a known one, whatever tokens spell it. Its form is not checked.

    Raises:
        InputError, RuntimeError, MemoryError: As `generate.sample`.
    """
    stop = end_of_turn_ids(tokenizer, prompts.model.generation_config)
    return generate.sample(prompts, tokenizer, settings, count, seeds, partial(_away, known, tokenizer, stop))


def _away(
    known: KnownNames,
    tokenizer: PreTrainedTokenizerBase,
    stop: Sequence[int],
    said: list[list[int]],
    logits: torch.Tensor,
) -> torch.Tensor:
    """Logits that lead away from known names, `[sequences, vocabulary]`."""
    logits = logits.clone()
    for row, tokens in enumerate(said):
        if tokens:
            logits[row, known.following.get(tuple(tokens), [])] -= DISCOUNT
            if tokenizer.decode(tokens, skip_special_tokens=True).strip().casefold() in known.spellings:
                logits[row, stop] = -float("inf")
    return logits
