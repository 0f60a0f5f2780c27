"""Log-likelihoods of sequences after a prompt, read in rows, several rows in one pass. Knows nothing of answers.

The prompt is read once and its keys and values are kept; each node of a trie sees the prompt and its own ancestors.
Where a sliding window is shorter than prompt and sequence, one mask for all layers would show the prompt to layers that
no longer see it: there each sequence has a row of its own, and the model makes its masks. Models that remember by a
recurrent state, or count positions by themselves, read prompt and sequence whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from toolkit.model.memory import lacks_memory
from toolkit.model.trie import NO_TOKEN, Rows, lay_out

# Told how many are done, and of how many.
Progress = Callable[[int, int], None]

# Bytes of logits that are normalised at once: what stays in a processor's cache takes a third of the time.
BLOCK_BYTES = 2**22
# Largest difference of equal logits, as a share of the largest; half precision rounds what another order adds up.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
# Any tokens do, if every vocabulary has them.
PROBE = (10, 11, 12, 13)


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


def after_prompt(
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


def whole(model: Any, prompt: Sequence[int], rows: Rows, at_once: int, progress: Progress) -> Any:
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
