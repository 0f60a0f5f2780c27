"""Log-likelihoods of many candidate answers after prompts.

Candidates are prepared once for any number of prompts. Prompts are read together (`prompts.py`), and the candidates
after them as tries (`trie.py`), so that what they share is computed once. Each node of a trie sees the prompt and its
own ancestors. The result equals a full pass for each prompt and candidate, up to rounding; tests compare them for every
family. Models that read each prompt alone read it anew for each candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from toolkit.core import Progress, ignore
from toolkit.core.errors import InputError
from toolkit.model import chat
from toolkit.model.chat_template import with_answer
from toolkit.model.loading import nan_error
from toolkit.model.memory import halving
from toolkit.model.prompts import Prompts, Reader
from toolkit.model.trie import NO_TOKEN, Rows, lay_out

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Most nodes of a row. With more, attention pays for those that do not see each other; with fewer, less is shared.
LARGEST_ROW = 512
# Tokens in one pass by device, and bytes of its logits.
AT_ONCE = {"cpu": 512, "cuda": 4096}
LOGIT_BYTES = 2**28
# Nodes of a row where enough prompts are ranked at once.
ROW = 64
# So many answers become token ids between two reports: a second's work on a slow machine.
REPORTED = 1000
# Bytes of logits that are normalised at once: what stays in a processor's cache takes a third of the time.
BLOCK_BYTES = 2**22
# Where the first few are wanted: candidates that are read first, and by how much those not read may change a share.
READ_FIRST, SHARE_ERROR = 32, 1e-4
# A sum of probabilities may exceed the one of their first token by rounding.
ROUNDED = 1 + 1e-5


@dataclass(slots=True)
class PreparedCandidates:
    """Candidates that one model scores after any number of prompts.

    Attributes:
        distinct: The distinct candidates, sorted.
        places: Index of each given candidate among them.
        at_once: Tokens that go through the model at once, 0 before the first prompt. Halved when the memory runs out.
        rows: The candidates laid out, by the number of nodes that a row has room for.
    """

    distinct: list[tuple[int, ...]]
    places: list[int]
    at_once: int = 0
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
    return score(Reader(model).read([prompt]), prepare(candidates))[0]


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


def prompts_at_once(model: PreTrainedModel) -> int:
    """How many prompts are ranked at once, so that a pass is as large as the device likes."""
    return max(1, _fitting(model) // ROW)


def score(
    prompts: Prompts, prepared: PreparedCandidates, progress: Progress = ignore, top: int | None = None
) -> list[list[float]]:
    """Natural-log probability of each candidate as the continuation of each prompt.

    Memory depends on the pass, not on the number of candidates, and where it runs out, passes become smaller.

    Args:
        prompts: What a `Reader` read.
        prepared: The candidates, for this model alone.
        progress: Called after each pass with the distinct candidates read, and with all when the others need not be
            read; fewer again where the memory ran out.
        top: How many of the first are wanted, None for all. Candidates that cannot be among them, and together change
            no share by more than `SHARE_ERROR`, are then minus infinity: a candidate is at most as likely as its first
            token, so that not all need to be read.

    Returns:
        For each prompt a sum of token log-probabilities a candidate, in the order given to `prepare`.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold one candidate (`memory_errors` translates).
    """
    import torch

    if not prepared.distinct:
        return [[] for _ in range(len(prompts))]

    def work(at_once: int) -> torch.Tensor:
        with torch.inference_mode():
            return _scores(prompts, prepared, at_once, partial(progress, "ranking known names"), top).cpu()

    scores, prepared.at_once = halving(prepared.at_once or _fitting(prompts.model), work)
    if bool(scores.isnan().any()):
        raise nan_error()
    found: list[list[float]] = scores[:, torch.tensor(prepared.places)].tolist()
    return found


def _fitting(model: PreTrainedModel) -> int:
    """Tokens in one pass."""
    logits = LOGIT_BYTES // (4 * int(model.config.get_text_config().vocab_size))
    return max(1, min(AT_ONCE.get(model.device.type, AT_ONCE["cpu"]), logits))


def _scores(
    prompts: Prompts, prepared: PreparedCandidates, at_once: int, progress: partial[None], top: int | None
) -> torch.Tensor:
    """Of the distinct candidates, `[prompts, candidates]` in float64."""
    import torch

    device, count = prompts.tokens.device, len(prepared.distinct)
    if prompts.last is None or not prompts.together(max(map(len, prepared.distinct))):
        rows = _laid_out(prepared, range(count), 0, device)
        alone = []
        for number, prompt in enumerate(prompts.each()):
            report = partial(_report, progress, number * count, len(prompts) * count)
            alone.append(_whole(prompts.model, prompt, rows, at_once, report))
        return torch.cat(alone)
    room = max(1, min(at_once // len(prompts), LARGEST_ROW))
    first = torch.tensor([candidate[:1] for candidate in prepared.distinct], device=device)
    bounds = _gathered(prompts.last[:, None], torch.zeros_like(first), first)
    scores = torch.full_like(bounds, -math.inf)
    unread = torch.ones(count, dtype=torch.bool, device=device)
    wanted = unread if top is None else _likeliest(bounds, unread, READ_FIRST)
    while bool(wanted.any()):
        chosen = wanted.nonzero()[:, 0]
        done = count - int(unread.sum())
        rows = _laid_out(prepared, chosen.tolist(), room, device)
        behind = _behind_first(prompts, rows, partial(_report, progress, done, count))
        scores[:, chosen] = bounds[:, chosen] + behind
        unread &= ~wanted
        # All at once: one long pass is faster than several, and often nearly all are needed.
        wanted = unread & _undecided(scores, bounds, first[:, 0], unread, top or count)
    if bool(unread.any()):
        progress(count, count)
    return scores


def _report(progress: partial[None], before: int, count: int, read: int) -> None:
    progress(before + read, count)


def _undecided(
    scores: torch.Tensor, bounds: torch.Tensor, first: torch.Tensor, unread: torch.Tensor, top: int
) -> torch.Tensor:
    """Which candidates may be among the first, or change a share by more than `SHARE_ERROR`, after any prompt.

    Those of one first token have together at most its probability (`bounds`), less what those that were read have.
    """
    import torch

    group = first.diff(prepend=first[:1]).ne(0).cumsum(0)
    # As multiples of the likeliest one that was read: a base's own probabilities of names may be too small for a float.
    best = scores.amax(1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    read, heads = (scores - best).exp(), (bounds - best).exp() * ROUNDED
    nothing = torch.zeros(len(read), int(group[-1]) + 1, dtype=read.dtype, device=read.device)
    left = (nothing.index_copy(1, group, heads) - nothing.index_add(1, group, read)).clamp(min=0)
    over = torch.ones_like(left[0], dtype=torch.bool).index_fill(0, group[unread], False)
    ordered, order = left.masked_fill(over, 0).sort(1)
    much = ordered.cumsum(1) > SHARE_ERROR * read.sum(1, keepdim=True).square()
    reached = left >= read.topk(min(top, read.shape[1])).values[:, -1:]
    return (reached | torch.zeros_like(much).scatter(1, order, much))[:, group].any(0)


def _likeliest(bounds: torch.Tensor, among: torch.Tensor, most: int) -> torch.Tensor:
    """The candidates of the highest bounds after any prompt, at most so many of some, `[candidates]`."""
    import torch

    highest = bounds.amax(0).nan_to_num(-math.inf).masked_fill(~among, -math.inf)
    chosen = highest.topk(min(most, int(among.sum()))).indices
    return torch.zeros_like(among).index_fill(0, chosen, True) & among


def _laid_out(prepared: PreparedCandidates, chosen: Sequence[int], room: int, device: torch.device) -> Rows:
    """Some of the distinct candidates in rows; those of all are kept."""
    whole = len(chosen) == len(prepared.distinct)
    if whole and room in prepared.rows:
        return prepared.rows[room]
    rows = lay_out([prepared.distinct[index] for index in chosen], room, device)
    if whole:
        prepared.rows[room] = rows
    return rows


def _behind_first(prompts: Prompts, rows: Rows, progress: Callable[[int], None]) -> torch.Tensor:
    """Log-likelihoods of all tokens but the first, `[prompts, candidates]`; `progress` gets the candidates read."""
    import torch

    if not rows.before.shape[1]:
        return torch.zeros(len(prompts), len(rows.sequences), dtype=torch.float64, device=rows.tokens.device)
    nodes, sums = rows.tokens.shape[1], []
    for row, (first, last) in enumerate(pairwise(rows.starts)):
        logits = prompts.after(rows.tokens[row], rows.depths[row], rows.visible[row])
        sums.append(_gathered(logits, rows.before[first:last] - row * nodes, rows.sequences[first:last, 1:]))
        progress(last)
    return torch.cat(sums, 1)


def _whole(
    model: PreTrainedModel, prompt: Sequence[int], rows: Rows, at_once: int, progress: Callable[[int], None]
) -> torch.Tensor:
    """Log-likelihoods from reading the prompt anew for each candidate, `[1, candidates]`; each has its own row."""
    import torch

    count, nodes = rows.tokens.shape
    start = torch.tensor([list(prompt)], device=model.device)
    passes = math.ceil(count / max(1, at_once // (len(prompt) + nodes)))
    size, scores = math.ceil(count / passes), []
    for first in range(0, count, size):
        tokens, sequences = rows.tokens[first : first + size], rows.sequences[first : first + size]
        # Padding stands behind, where no token that counts sees it.
        ids = torch.cat([start.expand(len(tokens), -1), tokens], dim=1)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=nodes + 1).logits
        before = torch.arange(len(tokens) * (nodes + 1), device=ids.device).view(len(tokens), -1)
        scores.append(_gathered(logits.flatten(0, 1)[None], before[:, : sequences.shape[1]], sequences))
        progress(first + len(tokens))
    return torch.cat(scores, 1)


def _gathered(logits: torch.Tensor, before: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Sums of log-probabilities in float64, `[prompts, sequences]`.

    `logits` are `[prompts, positions, vocabulary]`; `tokens`, and `before`, the position before each, are the same for
    all prompts, `[sequences, tokens]`.
    """
    import torch

    block = max(1, BLOCK_BYTES // (4 * logits.shape[2]))
    normalisers = torch.cat([_normaliser(part.float()) for part in torch.split(logits.flatten(0, 1), block)])
    found = logits[:, before, tokens.clamp(min=0)].double()
    found -= normalisers.view(logits.shape[:2])[:, before].double()
    return found.masked_fill(tokens == NO_TOKEN, 0).sum(2)


def _normaliser(logits: torch.Tensor) -> torch.Tensor:
    """Logarithm of the sum of exponentials, `[positions]`, in half the time that `logsumexp` takes on a CPU."""
    return logits.amax(1) - logits.log_softmax(1).amax(1)
