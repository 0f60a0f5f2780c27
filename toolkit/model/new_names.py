"""Names that are new by construction: what leads along a known name is less likely, and its last token never comes.

To forbid the end of known names alone makes `Squirtlesystem`: the model is led to the end, and then not let out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from toolkit.core.layout import DISCOUNT
from toolkit.core.names import keys_of, name_keys
from toolkit.core.recipe import DecodingSettings
from toolkit.model import generate
from toolkit.model.chat import end_of_turn_ids
from toolkit.model.generate import Generated
from toolkit.model.prompts import Prompts
from toolkit.model.rank import encode_answers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class KnownNames:
    """Names that may not be drawn.

    Attributes:
        following: The tokens with which known names go on, by the tokens so far, at least one.
        last: The tokens that complete one, by those before.
        keys: Of the names, as `core.names` compares them: in any case, and with any marks.
    """

    following: dict[tuple[int, ...], list[int]]
    last: dict[tuple[int, ...], list[int]]
    keys: frozenset[str]


def known_names(tokenizer: PreTrainedTokenizerBase, names: Sequence[str]) -> KnownNames:
    """The tree of names, in the tokens of `rank.encode_answers`."""
    following: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    last: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    ends = set(end_of_turn_ids(tokenizer))
    for answer in encode_answers(tokenizer, names):
        tokens = tuple(takewhile(lambda token: token not in ends, answer))
        for length in range(1, len(tokens) - 1):
            following[tokens[:length]].add(tokens[length])
        last[tokens[:-1]].add(tokens[-1])
    return KnownNames(_sorted(following), _sorted(last), frozenset(keys_of(names)))


def _sorted(tokens: dict[tuple[int, ...], set[int]]) -> dict[tuple[int, ...], list[int]]:
    return {said: sorted(following) for said, following in tokens.items()}


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
        logits[row, known.following.get(tuple(tokens), [])] -= DISCOUNT
        logits[row, known.last.get(tuple(tokens), [])] = -math.inf
        # A name may be spelt by other tokens.
        if not known.keys.isdisjoint(name_keys(tokenizer.decode(tokens, skip_special_tokens=True).strip())):
            logits[row, stop] = -math.inf
    return logits
