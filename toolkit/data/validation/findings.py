"""The report of a validation: findings by stable code with their first places, and the checks that were skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from toolkit import __version__
from toolkit.core.text import printable

FIRST_PLACES = 5
EXCERPT = 100

Severity = Literal["error", "warning"]

CODES: dict[str, tuple[Severity, str]] = {
    "schema.file": ("error", "a file that cannot be read"),
    "schema.messages": ("error", "no column `messages` of lists of {role, content}"),
    "schema.column": ("error", "a column that is missing, or of another type than text"),
    "schema.null": ("error", "a row without messages"),
    "schema.null-value": ("warning", "a row without a value where others have one"),
    "schema.empty-split": ("error", "a split without rows"),
    "schema.no-train": ("warning", "no split to train on"),
    "schema.id": ("error", "an id that another row has"),
    "schema.answer": ("error", "a column `answer` that is not what the assistant answers"),
    "manifest.hash": ("error", "a file that is not the one that the manifest names"),
    "chat.roles": ("error", "roles out of order"),
    "chat.empty": ("error", "an empty turn"),
    "chat.control-token": ("error", "a control token of a chat template inside a text"),
    "leak.own-name": ("error", "the answer's name in the prompt"),
    "leak.near-name": ("warning", "a word in the prompt that is nearly the answer's name"),
    "split.family": ("error", "a family of `unseen` in another split"),
    "split.answer": ("error", "an answer of `unseen` that `train` has"),
    "split.creature": ("error", "a creature of `validation` or `test` that `train` lacks"),
    "dup.exact": ("error", "the same text in two splits"),
    "dup.exact-within": ("warning", "the same text and answer twice in one split"),
    "dup.near": ("error", "nearly the same text in two splits"),
    "dup.near-within": ("warning", "nearly the same text twice in one split"),
    "label.conflict": ("warning", "one text with two answers"),
    "balance": ("warning", "a creature with far more or far fewer rows of `train` than others"),
    "text.control": ("warning", "control or zero-width characters"),
    "text.bidi": ("warning", "characters that change the direction of the text"),
    "text.mojibake": ("warning", "text that was decoded wrongly"),
    "text.not-nfc": ("warning", "text that is not in Unicode's form NFC"),
    "lang.description": ("warning", "a description in other letters than its language's"),
    "lang.request": ("warning", "a request that is not Korean"),
    "lang.answer": ("warning", "a name or an answer in the wrong script"),
    "tokens.length": ("error", "a conversation that is longer than training allows"),
    "tokens.contract": ("error", "a conversation that the tokenizer's chat template does not render as training needs"),
}
"""Code -> severity and what it finds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fault is: `row` counts from 0 within the split, `id` is the row's own where it has one."""

    split: str
    row: int | None
    id: str | None
    excerpt: str


@dataclass(slots=True)
class Finding:
    """What one check found: `count` faults (rows, for a check of rows), and the first five places."""

    code: str
    severity: Severity
    what: str
    count: int = 0
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A check that was not possible, or not for every row, and why."""

    code: str
    reason: str


@dataclass(slots=True)
class Report:
    """The outcome of a validation.

    Attributes:
        rows: Rows of each split that could be read.
        findings: Errors first, then by code.
        skipped: Checks that were not possible, by code.
        strict: Whether warnings count as errors.
    """

    rows: dict[str, int]
    findings: list[Finding]
    skipped: list[Skipped]
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is no error (and, when strict, no warning)."""
        return not any(self.strict or finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as values for JSON. The same rows give the same report in any folder."""
        return {"toolkit": __version__, "ok": self.ok, "strict": self.strict} | asdict(self)


class Findings:
    """Collects findings while rows are read."""

    def __init__(self) -> None:
        self._by_code: dict[str, Finding] = {}

    def add(
        self, code: str, split: str, row: int | None = None, id: str | None = None, text: str = "", at: int = 0
    ) -> None:
        """Note one place. `text` is cut to an excerpt around `at`, with invisible characters as escapes."""
        self.add_all(code, 1, [Place(printable(split), row, None if id is None else excerpt(id), excerpt(text, at))])

    def add_all(self, code: str, count: int, places: Sequence[Place]) -> None:
        """Note `count` faults at once; `places` are the first of them."""
        if count:
            finding = self._by_code.setdefault(code, Finding(code, *CODES[code]))
            finding.count += count
            finding.places += places[: FIRST_PLACES - len(finding.places)]

    def sorted(self) -> list[Finding]:
        """Errors first, then by code."""
        return sorted(self._by_code.values(), key=lambda finding: (finding.severity, finding.code))


def excerpt(text: str, at: int = 0) -> str:
    """At most a hundred characters around a place, on one line, with everything invisible as escapes."""
    start = max(0, min(at - EXCERPT // 3, len(text) - EXCERPT))
    cut = printable(text[start : start + EXCERPT])
    return ("…" if start else "") + cut + ("…" if start + EXCERPT < len(text) else "")
