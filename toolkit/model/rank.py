"""Log-likelihoods of many candidate answers after a prompt.

Candidates are prepared once for any number of prompts. Each prompt is read once, and its keys and values are kept; the
candidates are read after it as tries in rows (`trie.py`), so that what they share is computed once in a row. Each node
of a trie sees the prompt and its own ancestors. The result equals a full pass for each candidate, up to rounding; tests
compare them for every family.

Models with a recurrent state, or that count positions by themselves, read prompt and candidate whole; so do all where a
sliding window is shorter than both, which one mask for all layers cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from toolkit.core import Progress, ignore
from toolkit.core.errors import InputError, library_errors
from toolkit.model import chat
from toolkit.model.chat_template import with_answer
from toolkit.model.loading import nan_error
from toolkit.model.memory import halving, lacks_memory
from toolkit.model.trie import NO_TOKEN, Rows, attention_mask, lay_out, sees_all

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

# Nodes of a row. With more, attention pays for those that do not see each other; with fewer, less is shared.
ROW = 64
# Tokens in one pass by device, and bytes of its logits.
AT_ONCE = {"cpu": 512, "cuda": 4096}
LOGIT_BYTES = 2**28
# So many answers become token ids between two reports: a second's work on a slow machine.
REPORTED = 1000
# Bytes of logits that are normalised at once: what stays in a processor's cache takes a third of the time.
BLOCK_BYTES = 2**22
# Largest difference of equal logits, as a share of the largest; half precision rounds what another order adds up.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
# Any tokens do, if every vocabulary has them.
PROBE = (10, 11, 12, 13)


@dataclass(slots=True)
class PreparedCandidates:
    """Candidates that one model scores after any number of prompts, and cached facts about that model.

    Attributes:
        distinct: The distinct candidates, sorted.
        places: Index of each given candidate among them.
        at_once: Tokens that go through the model at once, 0 before the first prompt. Halved when the memory runs out.
        reads_tries: Whether the model reads tries, None before the first prompt.
        rows: The candidates laid out, by the number of nodes that a row has room for.
    """

    distinct: list[tuple[int, ...]]
    places: list[int]
    at_once: int = 0
    reads_tries: bool | None = None
    rows: dict[int, Rows] = field(default_factory=dict)


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], progress: Progress = ignore
) -> list[list[int]]:
    """Token ids of each answer with its end of turn, the same after any prompt."""
    anything, ids = chat.naming_messages("a"), []
    for number, answer in enumerate(answers, start=1):
        ids.append(chat.encode(tokenizer, with_answer(anything, answer)).answer_ids)
        if number % REPORTED == 0:
            progress("preparing known names", number, len(answers))
    return ids


def log_likelihoods(model: PreTrainedModel, prompt: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[float]:
    """Natural-log probability of each candidate after one prompt, by `prepare` and `score`."""
    return score(model, prompt, prepare(candidates))


def prepare(candidates: Sequence[Sequence[int]]) -> PreparedCandidates:
    """Candidates, each the token ids of an answer with its end of turn, ready for `score`.

    Raises:
        InputError: One has no tokens.
    """
    given = [tuple(candidate) for candidate in candidates]
    if () in given:
        raise InputError("A candidate has no tokens.", "Rank answers that have at least an end of turn.")
    distinct = sorted(set(given))
    place = {candidate: index for index, candidate in enumerate(distinct)}
    return PreparedCandidates(distinct, [place[candidate] for candidate in given])


def score(
    model: PreTrainedModel, prompt: Sequence[int], prepared: PreparedCandidates, progress: Progress = ignore
) -> list[float]:
    """Natural-log probability of each candidate as the continuation of the prompt.

    Memory depends on the pass, not on the number of candidates, and where it runs out, passes become smaller.

    Args:
        model: A causal language model in eval mode, the same for all prompts; adapters may be switched on and off.
        prompt: Token ids, `[tokens]`, at least one.
        prepared: The candidates, for this model alone.
        progress: Called after each pass with the distinct candidates read; fewer again where the memory ran out.

    Returns:
        One sum of token log-probabilities a candidate, in the order given to `prepare`; no candidates give none.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold one candidate (`memory_errors` translates).
    """
    import torch

    if not prepared.distinct:
        return []

    def work(at_once: int) -> torch.Tensor:
        if at_once != prepared.at_once:
            prepared.at_once = at_once
            prepared.rows.clear()
        # The prompt is read again: its cache may have grown in some layers only when the memory ran out.
        with torch.inference_mode():
            return _scores(model, prompt, prepared, partial(progress, "ranking known names")).cpu()

    fitting = LOGIT_BYTES // (4 * int(model.config.get_text_config().vocab_size))
    first = max(1, min(AT_ONCE.get(model.device.type, AT_ONCE["cpu"]), fitting))
    scores, _ = halving(prepared.at_once or first, work)
    if bool(scores.isnan().any()):
        raise nan_error()
    return list(scores[torch.tensor(prepared.places)].tolist())


def _scores(
    model: PreTrainedModel, prompt: Sequence[int], prepared: PreparedCandidates, progress: partial[None]
) -> torch.Tensor:
    """Of the distinct candidates, `[candidates]` in float64."""
    if prepared.reads_tries is None:
        prepared.reads_tries = reads_tries(model)
    tries = prepared.reads_tries and sees_all(model, len(prompt) + max(map(len, prepared.distinct)))
    room = min(ROW, prepared.at_once) if tries else 0
    if room not in prepared.rows:
        prepared.rows[room] = lay_out(prepared.distinct, room, model.device)
    read = _after_prompt if tries else _whole
    return read(model, prompt, prepared.rows[room], prepared.at_once, progress)


def reads_tries(model: PreTrainedModel) -> bool:
    """Whether a candidate's logits are independent of its place in a row and of the other candidates there.

    They are not where a model has a state that cannot be cut back to the prompt, or counts positions by itself.
    """
    import torch

    try:
        # Families that know no such mask, or keep a cache of their own, say so each in its way.
        with library_errors("The model reads no tries", "Let it read each candidate alone."):
            before, behind = _probe(model, (PROBE, (14, 15, 16, 17))), _probe(model, ((6, 7, 8, 9), PROBE))
    except InputError as error:
        if error.__cause__ is not None and lacks_memory(error.__cause__):
            raise error.__cause__ from None
        return False
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return bool((before - behind).abs().max() <= tolerance * before.abs().max())


def _probe(model: PreTrainedModel, pair: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Logits along `PROBE`, one of two sorted candidates in one row after a short prompt, `[tokens, vocabulary]`."""
    rows = lay_out(pair, 2 * len(PROBE), model.device)
    cache, _ = _read(model, (3, 4, 5))
    logits = _logits(model, cache, 3, rows, slice(0, 1))
    return logits[rows.before[pair.index(PROBE)]].float()


def _after_prompt(
    model: PreTrainedModel, prompt: Sequence[int], rows: Rows, at_once: int, progress: partial[None]
) -> torch.Tensor:
    """Log-likelihoods in tries after a prompt that is read once, `[candidates]` in float64."""
    import torch

    cache, last = _read(model, prompt)
    scores = _gathered(last, torch.zeros_like(rows.sequences[:, :1]), rows.sequences[:, :1])
    if not rows.before.shape[1]:
        return scores
    nodes, copies = rows.tokens.shape[1], 1
    for held, sequences in _passes(rows, max(1, at_once // nodes)):
        copies = _copy_prompt(cache, copies, held.stop - held.start)
        logits = _logits(model, cache, len(prompt), rows, held)
        before = rows.before[sequences] - held.start * nodes
        scores[sequences] += _gathered(logits, before, rows.sequences[sequences, 1:])
        progress(sequences.stop, len(rows.sequences))
    return scores


def _whole(
    model: PreTrainedModel, prompt: Sequence[int], rows: Rows, at_once: int, progress: partial[None]
) -> torch.Tensor:
    """Log-likelihoods from reading the prompt anew for each candidate, `[candidates]`; each has a row of its own."""
    import torch

    nodes, longest = rows.tokens.shape[1], rows.sequences.shape[1]
    start = torch.tensor([list(prompt)], device=model.device)
    scores = []
    for held, sequences in _passes(rows, max(1, at_once // (len(prompt) + nodes))):
        tokens = rows.tokens[held]
        # Padding stands behind, where no token that counts sees it.
        ids = torch.cat([start.expand(len(tokens), -1), tokens], dim=1)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=nodes + 1).logits
        before = torch.arange(len(tokens) * (nodes + 1), device=ids.device).view(len(tokens), -1)
        scores.append(_gathered(logits.flatten(0, 1), before[:, :longest], rows.sequences[sequences]))
        progress(sequences.stop, len(rows.sequences))
    return torch.cat(scores)


def _passes(rows: Rows, most: int) -> Iterator[tuple[slice, slice]]:
    """The rows of each pass, at most so many and about as many in each, and the sequences in them."""
    count = len(rows.starts) - 1
    size = math.ceil(count / math.ceil(count / most))
    for first in range(0, count, size):
        last = min(first + size, count)
        yield slice(first, last), slice(rows.starts[first], rows.starts[last])


def _read(model: PreTrainedModel, prompt: Sequence[int]) -> tuple[DynamicCache, torch.Tensor]:
    """The prompt's keys and values, and the logits after it, `[1, vocabulary]`."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    ids = torch.tensor([list(prompt)], device=model.device)
    return cache, model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1:]


def _logits(model: PreTrainedModel, cache: DynamicCache, prompt_length: int, rows: Rows, held: slice) -> torch.Tensor:
    """At the nodes of some rows, `[rows * nodes, vocabulary]`.

    The cache holds the prompt once for each row, before and afterwards.
    """
    tokens = rows.tokens[held]
    logits: torch.Tensor = model(
        input_ids=tokens,
        past_key_values=cache,
        use_cache=True,
        position_ids=prompt_length + rows.depths[held],
        attention_mask=attention_mask(rows.visible[held], model.dtype, prompt_length),
    ).logits
    cache.crop(-tokens.shape[1])
    return logits.flatten(0, 1)


def _copy_prompt(cache: DynamicCache, copies: int, wanted: int) -> int:
    """Make a cache that holds the prompt once, or too often, hold it as often as wanted."""
    import torch

    if copies < wanted:
        cache.batch_repeat_interleave(wanted // copies)
    elif copies > wanted:
        cache.batch_select_indices(torch.arange(wanted))
    return wanted


def _gathered(logits: torch.Tensor, before: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Sums of log-probabilities in float64, `[sequences]`.

    `logits` are `[positions, vocabulary]`; `tokens`, and `before`, the position before each, `[sequences, tokens]`.
    """
    import torch

    block = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    normalisers = torch.cat([_normaliser(part.float()) for part in torch.split(logits, block)])
    found = logits[before, tokens.clamp(min=0)].double() - normalisers[before].double()
    return found.masked_fill(tokens == NO_TOKEN, 0).sum(1)


def _normaliser(logits: torch.Tensor) -> torch.Tensor:
    """Logarithm of the sum of exponentials, `[positions]`, in half the time that `logsumexp` takes on a CPU."""
    return logits.amax(1) - logits.log_softmax(1).amax(1)
