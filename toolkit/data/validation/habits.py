"""What most rows of a dataset do, so that the others are found: ask in Korean, answer in one script."""

from __future__ import annotations

from functools import lru_cache

from toolkit.core.text import fits_language
from toolkit.data.validation.findings import FIRST_PLACES, Findings, Place, excerpt
from toolkit.data.validation.row import script_of
from toolkit.data.validation.turns import Conversation

MOST = 0.9
"""The share of answers in one script from which the others are faults."""
FEWEST = 10
SCRIPTS = {"en": "Latin", "ko": "Korean", "both": "Korean (Latin)"}

_script = lru_cache(maxsize=100_000)(script_of)


class _Places:
    """How many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[tuple[int, Place]] = []

    def add(self, order: int, split: str, row: int, id: str | None, text: str) -> None:
        self.count += 1
        if len(self.first) < FIRST_PLACES:
            self.first.append((order, Place(split, row, None if id is None else excerpt(id), excerpt(text))))


class Habits:
    """Counts while rows are read, and finds the unusual ones at the end.

    Args:
        answer: The form of answers that the dataset was built with (`en`, `ko`, `both`), None when nobody says.
        korean: Whether requests have to be Korean. Else they have to when most are.
    """

    def __init__(self, answer: object, korean: bool) -> None:
        self._form = answer if isinstance(answer, str) and answer in SCRIPTS else None
        self._korean = korean
        self._rows = 0
        self._requests = 0
        self._others = _Places()
        self._scripts: dict[str, _Places] = {}

    def see(self, conversation: Conversation, answer: str | None, split: str, row: int, id: str | None) -> None:
        """Count a row."""
        self._rows += 1
        request = conversation.request
        self._requests += bool(request)
        if not request or not _is_korean(request):
            self._others.add(
                self._rows, split, row, id, request or f"no request that other rows have: {conversation.prompt}"
            )
        script = None if not answer else _script(answer) if len(answer) <= 100 else script_of(answer)
        if answer and script:
            self._scripts.setdefault(script, _Places()).add(self._rows, split, row, id, answer)

    def finish(self, found: Findings) -> None:
        """Note the rows that do otherwise."""
        if self._korean_is_usual():
            found.add_all("lang.request", self._others.count, [place for _, place in self._others.first])
        usual = self._usual_script()
        if usual is not None:
            others = [places for script, places in self._scripts.items() if script != usual]
            first = sorted((entry for places in others for entry in places.first), key=lambda entry: entry[0])
            found.add_all("lang.answer", sum(places.count for places in others), [place for _, place in first])

    def _korean_is_usual(self) -> bool:
        return self._korean or (self._rows - self._others.count) * 2 > self._rows

    def _usual_script(self) -> str | None:
        if self._form is not None:
            return self._form
        total = sum(places.count for places in self._scripts.values())
        usual = max(self._scripts, key=lambda script: self._scripts[script].count, default=None)
        if usual is None or total < FEWEST or self._scripts[usual].count < MOST * total:
            return None
        return usual

    def skipped(self) -> dict[str, str]:
        """Which of the two could not be found, and why."""
        reasons = {}
        if not self._korean_is_usual():
            reasons["lang.request"] = "most requests are not Korean" if self._requests else "the rows share no request"
        if self._usual_script() is None:
            total = sum(places.count for places in self._scripts.values())
            few = f"fewer than {FEWEST} answers" if total < FEWEST else "the answers are in several scripts"
            reasons["lang.answer"] = f"{few}, and no manifest says which is right"
        return reasons


@lru_cache(maxsize=10_000)
def _is_korean(request: str) -> bool:
    return fits_language(request, "ko")
