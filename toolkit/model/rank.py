"""Log-likelihood of many candidate answers after a prompt. Knows nothing of what the answers mean.

Candidates are prepared once for any number of prompts. Each prompt is read once, and the candidates after it as tries
in rows (`trie.py`, `passes.py`), so that what they share is computed once in a row; the softmax normaliser too. The
result equals a full pass for each candidate, up to rounding; tests compare them for every family.

Memory depends on the pass, not on the number of candidates, and where it runs out, passes become smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkit.core.errors import InputError
from toolkit.model import chat, passes
from toolkit.model.finite import no_numbers
from toolkit.model.memory import free_cache, lacks_memory
from toolkit.model.passes import Progress
from toolkit.model.trie import Rows, lay_out

# Nodes of a row. With more, attention pays for those that do not see each other; with fewer, less is shared.
ROW = 64
# Tokens in one pass by device, and bytes of its logits, which a large vocabulary has many of.
AT_ONCE = {"cpu": 512, "cuda": 4096}
LOGIT_BYTES = 2**28
# So many answers become token ids between two reports: a second's work on a slow machine.
REPORTED = 1000


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
        prepared.takes_tries = passes.takes_tries(model)
    within = passes.sees_all(model, len(prompt) + max(map(len, prepared.distinct)))
    room = min(ROW, prepared.at_once) if prepared.takes_tries and within else 0
    if room not in prepared.rows:
        prepared.rows[room] = lay_out(prepared.distinct, room, model.device)
    rows = prepared.rows[room]
    if not prepared.takes_tries:
        return passes.whole(model, prompt, rows, prepared.at_once, progress)
    return passes.after_prompt(model, prompt, rows, prepared.at_once, progress, masked=within)
