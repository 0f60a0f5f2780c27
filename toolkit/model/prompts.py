"""Prompts that a model reads together, before candidates are ranked or names are generated after them.

What all begin with is read once and kept. Each rest is read after it, in rows of one length; the keys and values of all
are kept for what comes after the prompts. Models with a recurrent state, that count positions by themselves, or that
have a sliding window shorter than the text, read each prompt alone, and anew for each continuation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError, library_errors
from toolkit.model.centroids import states
from toolkit.model.memory import lacks_memory
from toolkit.model.trie import attention_mask, lay_out, sees_all

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel

# Largest difference of equal logits, as a share of the largest; half precision rounds what another order adds up.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
# Any tokens do, if every vocabulary has them: an opening, two prompts that begin with it, two sorted candidates.
PROBE_OPENING, PROBE_PROMPTS, PROBE_CANDIDATES = (3, 4), ((3, 4, 5), (3, 4, 6, 7, 8)), ((6, 7, 9, 9), (10, 11, 12, 13))


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts in columns of tokens: what all begin with, filling where one is shorter than the longest, its rest.

    Attributes:
        model: It has read them, or reads each alone.
        tokens: `[prompts, columns]`; filled with a token of the prompt itself, so that no penalty meets another one.
        counts: Whether a column holds a token of the prompt, `[prompts, columns]`.
        cache: Keys and values of the columns, never changed; None where each prompt is read alone.
        last: Logits after each prompt, `[prompts, vocabulary]`; None without `cache`.
        entered: What entered the output embeddings at the last token of each prompt, `[prompts, hidden]`; None without
            `cache`, or where a model shows none.
    """

    model: PreTrainedModel
    tokens: torch.Tensor
    counts: torch.Tensor
    cache: DynamicCache | None = None
    last: torch.Tensor | None = None
    entered: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def some(self, numbers: Sequence[int]) -> Prompts:
        """Those of the given numbers."""
        import torch

        held = torch.tensor(numbers, device=self.tokens.device)
        if self.cache is None or self.last is None:
            return Prompts(self.model, self.tokens[held], self.counts[held])
        cache = _copy(self.cache)
        cache.batch_select_indices(held)
        entered = None if self.entered is None else self.entered[held]
        return Prompts(self.model, self.tokens[held], self.counts[held], cache, self.last[held], entered)

    @property
    def states(self) -> torch.Tensor | None:
        """What enters the output embeddings at the last token of each prompt, `[prompts, hidden]`; None where a model
        shows none. Prompts that are read alone are read for it.
        """
        import torch

        if self.cache is not None:
            return self.entered
        with torch.inference_mode(), states(self.model) as seen:
            for prompt in self.each():
                ids = torch.tensor([prompt], device=self.model.device)
                self.model(input_ids=ids, use_cache=False, logits_to_keep=1)
        return torch.cat([entered[:, -1] for entered in seen]) if seen else None

    def each(self) -> Iterator[list[int]]:
        """The tokens of each prompt."""
        for tokens, counts in zip(self.tokens, self.counts, strict=True):
            yield tokens[counts].tolist()

    def together(self, more: int) -> bool:
        """Whether they can be continued together, each by at most so many tokens."""
        return self.cache is not None and sees_all(self.model, self.tokens.shape[1] + more)

    def after(self, tokens: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Logits at the same tokens after each prompt, `[prompts, tokens, vocabulary]`.

        Args:
            tokens: `[tokens]`.
            depths: Of each token, 0 for the first after a prompt, `[tokens]`.
            visible: Whether a token (first index) sees another, beside the prompt, `[tokens, tokens]`.
        """
        logits: torch.Tensor = self.model(
            input_ids=tokens.expand(len(self), -1),
            past_key_values=self.continuing(),
            use_cache=True,
            position_ids=self.counts.sum(1, keepdim=True) + depths,
            attention_mask=_mask(self.counts, visible, self.model.dtype),
        ).logits
        return logits

    def continuing(self, copies: int = 1, without: int = 0) -> DynamicCache:
        """A cache to go on from: each prompt so many times, without so many of the last columns."""
        if self.cache is None:
            raise ValueError("prompts that are read alone have no cache")
        cache = _copy(self.cache)
        if without:
            cache.crop(-without)
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        return cache


@dataclass
class Reader:
    """Reads prompts that begin alike; not safe to use from several threads.

    Attributes:
        model: A causal language model in eval mode, the same for all prompts.
        opening: Token ids of what they begin with, kept once read; others are read whole.
    """

    model: PreTrainedModel
    opening: Sequence[int] = ()
    _opened: DynamicCache | None = field(default=None, repr=False)

    def read(self, prompts: Sequence[Sequence[int]]) -> Prompts:
        """Prompts of at least one token each, read together where the model can.

        Raises:
            RuntimeError, MemoryError: The memory does not hold them (`memory_errors` translates).
        """
        import torch

        opened = len(self.opening) if self._opens(prompts) else 0
        read = in_columns(self.model, prompts, opened)
        if not (self.reads_together and sees_all(self.model, read.tokens.shape[1])):
            return read
        with torch.inference_mode(), states(self.model) as seen:
            read = self._read(read, opened)
        # Where the opening was read in a pass of its own, that came first.
        return replace(read, entered=seen[-1][:, -1]) if seen else read

    @cached_property
    def reads_together(self) -> bool:
        """Whether logits after a prompt depend neither on its filling, nor on other prompts and candidates beside it.

        They do where a model has a state that cannot be cut back to the prompt, or counts positions by itself.
        """
        import torch

        try:
            # Families that know no such mask, or keep a cache of their own, say so each in its way.
            with library_errors("The model reads prompts alone", "Let it."), torch.inference_mode():
                together, alone = self._probe()
        except InputError as error:
            if error.__cause__ is not None and lacks_memory(error.__cause__):
                raise error.__cause__ from None
            return False
        tolerance = TOLERANCE if self.model.dtype == torch.float32 else HALF_TOLERANCE
        return bool((together - alone).abs().max() <= tolerance * alone.abs().max())

    def _probe(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits along the last candidate after each prompt: together with the other ones, and by plain passes."""
        import torch

        last, device = PROBE_CANDIDATES[-1], self.model.device
        rows = lay_out(PROBE_CANDIDATES, sum(map(len, PROBE_CANDIDATES)), device)
        reader = Reader(self.model, PROBE_OPENING)
        read = reader._read(in_columns(self.model, PROBE_PROMPTS, len(PROBE_OPENING)), len(PROBE_OPENING))
        together = read.after(rows.tokens[0], rows.depths[0], rows.visible[0])[:, rows.before[-1]]
        alone = [
            self.model(input_ids=torch.tensor([[*prompt, *last]], device=device), use_cache=False).logits[0, -4:-1]
            for prompt in PROBE_PROMPTS
        ]
        return together.float(), torch.stack(alone).float()

    def _opens(self, prompts: Sequence[Sequence[int]]) -> bool:
        opening = list(self.opening)
        return all(len(prompt) > len(opening) and list(prompt[: len(opening)]) == opening for prompt in prompts)

    def _read(self, prompts: Prompts, opened: int) -> Prompts:
        """The prompts with their keys and values, and the logits behind them; `opened` columns hold the opening."""
        import torch
        from transformers import DynamicCache

        cache = _copy(self._opening()) if opened else DynamicCache()
        if len(prompts) > 1:
            cache.batch_repeat_interleave(len(prompts))
        tokens, counts = prompts.tokens[:, opened:], prompts.counts[:, opened:]
        itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)
        logits = self.model(
            input_ids=tokens,
            past_key_values=cache,
            use_cache=True,
            position_ids=(prompts.counts.cumsum(1) - 1)[:, opened:].clamp(min=0),
            attention_mask=_mask(
                prompts.counts[:, :opened],
                counts[:, None].expand(-1, len(itself), -1).tril() | itself,
                self.model.dtype,
            ),
            logits_to_keep=1,
        ).logits
        return Prompts(self.model, prompts.tokens, prompts.counts, cache, logits[:, -1])

    def _opening(self) -> DynamicCache:
        import torch
        from transformers import DynamicCache

        if self._opened is None:
            cache = DynamicCache()
            ids = torch.tensor([list(self.opening)], device=self.model.device)
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._opened = cache
        return self._opened


def shared_opening(prompts: Sequence[list[int]]) -> list[int]:
    """What all prompts begin with, so that each has a rest."""
    shared = [each[0] for each in takewhile(lambda each: len(set(each)) == 1, zip(*prompts, strict=False))]
    return shared[: min(map(len, prompts), default=1) - 1]


def in_columns(model: PreTrainedModel, prompts: Sequence[Sequence[int]], opened: int = 0) -> Prompts:
    """Prompts laid out, not read yet; the filling follows the first `opened` tokens."""
    import torch

    longest = max(map(len, prompts))
    missing = [longest - len(prompt) for prompt in prompts]
    tokens = [[*one[:opened], *[one[0]] * less, *one[opened:]] for one, less in zip(prompts, missing, strict=True)]
    columns, behind = torch.arange(longest), opened + torch.tensor(missing)[:, None]
    counts = (columns < opened) | (columns >= behind)
    return Prompts(model, torch.tensor(tokens, device=model.device), counts.to(model.device))


def _copy(cache: DynamicCache) -> DynamicCache:
    """A cache of the same keys and values: what is added to or cut from one is not in the other."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def _mask(counts: torch.Tensor, visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """For `[prompts, tokens]`, each of which sees the columns that count, and those of the tokens that are visible."""
    import torch

    tokens = visible.shape[-1]
    columns = counts[:, None].expand(-1, tokens, -1)
    return attention_mask(torch.cat([columns, visible.expand(len(counts), tokens, tokens)], 2), dtype)
