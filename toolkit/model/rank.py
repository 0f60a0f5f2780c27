"""Log-likelihood of many candidate answers after a prompt. Knows nothing of what the answers mean.

Candidates are prepared once for any number of prompts. Each prompt is read once, and the candidates after it as tries
in rows (`trie.py`), so that what they share is computed once in a row; the softmax normaliser too. The
result equals a full pass for each candidate, up to rounding; tests compare them for every family.

Memory depends on the pass, not on the number of candidates, and where it runs out, passes become smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.core.errors import InputError
from toolkit.model import chat
from toolkit.model.finite import no_numbers
from toolkit.model.memory import free_cache, lacks_memory
from toolkit.model.trie import NO_TOKEN, Rows, lay_out

# Told how many are done, and of how many.
Progress = Callable[[int, int], None]
# Bytes of logits that are normalised at once: what stays in a processor's cache takes a third of the time.
BLOCK_BYTES = 2**22
# Largest difference of equal logits, as a share of the largest; half precision rounds what another order adds up.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
# Any tokens do, if every vocabulary has them.
PROBE = (10, 11, 12, 13)
# Nodes of a row. With more, attention pays for those that do not see each other; with fewer, less is shared.
ROW = 64
# Tokens in one pass by device, and bytes of its logits, which a large vocabulary has many of.
AT_ONCE = {"cpu": 512, "cuda": 4096}
LOGIT_BYTES = 2**28
# So many answers become token ids between two reports: a second's work on a slow machine.
REPORTED = 1000


def takes_tries(model: Any) -> bool:
    """Whether a sequence has the same logits wherever it stands in a row, and whatever stands there beside it.

    Not where a model remembers by a state that can not be cut back to the prompt, or counts positions by itself.
    """
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(inner, "_is_stateful", False):
        return False
    try:
        before, behind = _probe(model, (PROBE, (14, 15, 16, 17))), _probe(model, ((6, 7, 8, 9), PROBE))
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        # Families that know no such mask, or keep a cache of their own, say so each in its way.
        if lacks_memory(error):
            raise
        return False
    tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    return bool((before - behind).abs().max() <= tolerance * before.abs().max())


def sees_all(model: Any, length: int) -> bool:
    """Whether every layer sees a text of this many tokens from end to end."""
    config = model.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return all(window is None or length <= window for window in windows)


def _after_prompt(
    model: Any, prompt: Sequence[int], rows: Rows, at_once: int, progress: Progress, *, masked: bool
) -> Any:
    """Log-likelihoods after a prompt that is read once, `[sequences]` in float64.

    Args:
        model: In eval mode.
        prompt: Token ids.
        rows: The sequences.
        at_once: Most tokens of a pass; a pass has one row at least.
        progress: Called after each pass.
        masked: The rows hold tries, and are told what they see; else each holds one sequence.
    """
    import torch

    cache, last = _read(model, prompt)
    scores = _gathered(last, torch.zeros_like(rows.sequences[:, :1]), rows.sequences[:, :1])
    if not rows.before.shape[1]:
        return scores
    nodes = rows.tokens.shape[1]
    for held, sequences in _passes(rows, max(1, at_once // nodes)):
        logits = _logits(model, cache, len(prompt), rows, held, masked=masked)
        before = rows.before[sequences] - held.start * nodes
        scores[sequences] += _gathered(logits, before, rows.sequences[sequences, 1:])
        progress(sequences.stop, len(rows.sequences))
    return scores


def _whole(model: Any, prompt: Sequence[int], rows: Rows, at_once: int, progress: Progress) -> Any:
    """Log-likelihoods from reading the prompt anew for each sequence, `[sequences]`; each has a row of its own."""
    import torch

    nodes, longest = rows.tokens.shape[1], rows.sequences.shape[1]
    start = torch.tensor([list(prompt)], device=model.device)
    scores = []
    for held, sequences in _passes(rows, max(1, at_once // (len(prompt) + nodes))):
        tokens = rows.tokens[held]
        # Padding stands behind, where nothing that is asked for sees it.
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


def _read(model: Any, prompt: Sequence[int]) -> tuple[Any, Any]:
    """The prompt's keys and values, and the logits after it, `[1, vocabulary]`."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache()
    ids = torch.tensor([list(prompt)], device=model.device)
    return cache, model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1:]


def _logits(model: Any, cache: Any, prompt_length: int, rows: Rows, held: slice, *, masked: bool) -> Any:
    """At the nodes of some rows, `[rows * nodes, vocabulary]`. The cache holds the prompt alone again afterwards."""
    tokens = rows.tokens[held]
    _hold(cache, len(tokens))
    told = {}
    if masked:
        told["position_ids"] = prompt_length + rows.depths[held]
        told["attention_mask"] = _mask(rows.visible[held], prompt_length, model.dtype)
    logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, **told).logits
    cache.crop(-tokens.shape[1])
    return logits.flatten(0, 1)


def _hold(cache: Any, count: int) -> None:
    """Make a cache that holds the prompt once, or too often, hold it `count` times."""
    import torch

    keys = cache.layers[0].keys
    if len(keys) < count:
        cache.batch_repeat_interleave(count)
    elif len(keys) > count:
        cache.batch_select_indices(torch.arange(count, device=keys.device))


def _mask(visible: Any, prompt_length: int, dtype: Any) -> Any:
    """What is added to attention scores, `[rows, 1, nodes, prompt + nodes]`: the prompt is seen by all."""
    import torch

    rows, nodes, _ = visible.shape
    mask = torch.zeros(rows, 1, nodes, prompt_length + nodes, dtype=dtype, device=visible.device)
    mask[:, 0, :, prompt_length:].masked_fill_(~visible, torch.finfo(dtype).min)
    return mask


def _gathered(logits: Any, before: Any, tokens: Any) -> Any:
    """Sums of log-probabilities in float64, `[sequences]`.

    Args:
        logits: `[positions, vocabulary]`.
        before: The position before each token, `[sequences, tokens]`.
        tokens: `[sequences, tokens]`, some of them `NO_TOKEN`.
    """
    import torch

    block = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    normalisers = torch.cat([_normaliser(part.float()) for part in logits.split(block)])
    found = logits[before, tokens.clamp(min=0)].double() - normalisers[before].double()
    return found.masked_fill(tokens == NO_TOKEN, 0).sum(1)


def _normaliser(logits: Any) -> Any:
    """Logarithm of the sum of exponentials, `[positions]`.

    The largest logit less its own log-probability: on a CPU `log_softmax` takes half the time of `logsumexp`.
    """
    return logits.amax(1) - logits.log_softmax(1).amax(1)


def _probe(model: Any, pair: Sequence[tuple[int, ...]]) -> Any:
    """Logits along `PROBE`, one of two sorted sequences in one row after a short prompt, `[tokens, vocabulary]`."""
    rows = lay_out(pair, 2 * len(PROBE), model.device)
    cache, _ = _read(model, (3, 4, 5))
    logits = _logits(model, cache, 3, rows, slice(0, 1), masked=True)
    return logits[rows.before[pair.index(PROBE)]].float()


def _silent(_done: int, _of: int) -> None:
    """For whom nobody waits."""


@dataclass(slots=True)
class Prepared:
    """Candidates that one model scores after any number of prompts, and what was found out while it did.

    Attributes:
        distinct: The distinct candidates, sorted.
        places: Where each given candidate stands among them.
        at_once: Tokens that go through the model at once, 0 before the first prompt. Halved when the memory runs out.
        takes_tries: Whether the model reads tries, None before the first prompt.
        rows: The candidates laid out, by the number of nodes that a row has room for.
    """

    distinct: list[tuple[int, ...]]
    places: list[int]
    at_once: int = 0
    takes_tries: bool | None = None
    rows: dict[int, Rows] = field(default_factory=dict)


def answer_ids(tokenizer: Any, answers: Sequence[str], progress: Progress = _silent) -> list[list[int]]:
    """Token ids of each answer with its end of turn, the same after any prompt; progress is told where many are."""
    anything, ids = chat.naming_messages("a"), []
    for number, answer in enumerate(answers, start=1):
        ids.append(chat.encode(tokenizer, chat.with_answer(anything, answer)).answer_ids)
        if number % REPORTED == 0:
            progress(number, len(answers))
    return ids


def log_likelihoods(model: Any, prompt: Sequence[int], candidates: Sequence[Sequence[int]]) -> list[float]:
    """Natural-log probability of each candidate after one prompt, as `prepare` and `score` find it."""
    return score(model, prompt, prepare(candidates))


def prepare(candidates: Sequence[Sequence[int]]) -> Prepared:
    """Candidates, each the token ids of an answer with its end of turn, ready for `score`.

    Raises:
        InputError: One has no tokens.
    """
    given = [tuple(candidate) for candidate in candidates]
    if () in given:
        raise InputError("A candidate has no tokens.", "Rank answers that have at least an end of turn.")
    distinct = sorted(set(given))
    place = {candidate: index for index, candidate in enumerate(distinct)}
    return Prepared(distinct, [place[candidate] for candidate in given])


def score(model: Any, prompt: Sequence[int], prepared: Prepared, progress: Progress = _silent) -> list[float]:
    """Natural-log probability of each candidate as the continuation of the prompt.

    Args:
        model: A causal language model in eval mode, the same for all prompts; adapters may be switched on and off.
        prompt: Token ids, `[tokens]`, at least one.
        prepared: The candidates. They keep what was learnt about the memory for the next prompt.
        progress: Told after each pass how many distinct candidates are read; fewer again where the memory ran out.

    Returns:
        One sum of token log-probabilities a candidate, in the order given to `prepare`; no candidates give none.

    Raises:
        InputError: The model's probabilities are no numbers.
        RuntimeError: The memory does not hold one candidate; or a MemoryError (`memory_errors` has words for it).
    """
    import torch

    if not prepared.distinct:
        return []
    prepared.at_once = prepared.at_once or _first_size(model)
    while True:
        try:
            with torch.inference_mode():
                scores = _scores(model, prompt, prepared, progress).cpu()
            break
        except (RuntimeError, MemoryError) as error:
            if prepared.at_once == 1 or not lacks_memory(error):
                raise
        # Behind the `except`, so that nothing holds on to the pass that failed. The prompt is read again: its cache
        # may have grown in some layers only.
        free_cache()
        prepared.at_once //= 2
        prepared.rows.clear()
    if bool(scores.isnan().any()):
        raise no_numbers()
    return list(scores[torch.tensor(prepared.places)].tolist())


def _first_size(model: Any) -> int:
    vocabulary = int(model.config.get_text_config().vocab_size)
    return max(1, min(AT_ONCE.get(model.device.type, AT_ONCE["cpu"]), LOGIT_BYTES // (4 * vocabulary)))


def _scores(model: Any, prompt: Sequence[int], prepared: Prepared, progress: Progress) -> Any:
    """Of the distinct candidates, `[candidates]` in float64."""
    if prepared.takes_tries is None:
        prepared.takes_tries = takes_tries(model)
    within = sees_all(model, len(prompt) + max(map(len, prepared.distinct)))
    room = min(ROW, prepared.at_once) if prepared.takes_tries and within else 0
    if room not in prepared.rows:
        prepared.rows[room] = lay_out(prepared.distinct, room, model.device)
    rows = prepared.rows[room]
    if not prepared.takes_tries:
        return _whole(model, prompt, rows, prepared.at_once, progress)
    return _after_prompt(model, prompt, rows, prepared.at_once, progress, masked=within)
