"""What a validation found: findings by stable code, with the first places, and the checks that could not be done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FIRST_PLACES = 5
EXCERPT = 100

Severity = Literal["error", "warning"]

CODES: dict[str, tuple[Severity, str]] = {
    "schema.file": ("error", "a file that is not readable Parquet"),
    "schema.messages": ("error", "no column `messages` of lists of {role, content}"),
    "schema.column": ("error", "a column of another type than text"),
    "schema.null": ("error", "a row without messages"),
    "schema.empty-split": ("error", "a split without rows"),
    "schema.no-train": ("warning", "no split to train on"),
    "schema.id": ("error", "an id that another row has"),
    "schema.answer": ("error", "a column `answer` that is not what the assistant answers"),
    "manifest.hash": ("error", "a file that is not the one that the manifest tells of"),
    "chat.roles": ("error", "roles out of order"),
    "chat.empty": ("error", "an empty turn"),
    "chat.control-token": ("error", "a control token of a chat template inside a text"),
    "leak.own-name": ("error", "the answer's name in the prompt"),
    "split.family": ("error", "a family of `unseen` in another split"),
    "split.creature": ("error", "a creature of `validation` or `test` that `train` lacks"),
    "dup.exact": ("error", "the same text in two splits"),
    "dup.exact-within": ("warning", "the same text and answer twice in one split"),
    "dup.near": ("error", "nearly the same text in two splits"),
    "label.conflict": ("warning", "one text with two answers"),
    "text.control": ("warning", "control or zero-width characters"),
    "text.bidi": ("warning", "characters that change the direction of the text"),
    "text.mojibake": ("warning", "text that was decoded wrongly"),
    "text.not-nfc": ("warning", "text that is not in Unicode's form NFC"),
    "lang.description": ("warning", "a description in other letters than its language's"),
    "tokens.length": ("error", "a conversation that is longer than training allows"),
    "tokens.contract": ("error", "a conversation that the tokenizer's chat template does not render as training needs"),
}
"""Code -> severity and what it finds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where: `row` counts from 0 within the split; `id` is the row's own, when it has one."""

    split: str
    row: int | None
    id: str | None
    excerpt: str


@dataclass(slots=True)
class Finding:
    """All that one check found: how often, and the first five places."""

    code: str
    severity: Severity
    what: str
    count: int = 0
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A check that could not be done, and why."""

    code: str
    reason: str


@dataclass(slots=True)
class Report:
    """The outcome of a validation.

    Attributes:
        name: The dataset's folder name.
        rows: Rows of each split.
        findings: Errors first, then by code.
        skipped: Checks that could not be done.
        strict: Whether warnings count as errors.
    """

    name: str
    rows: dict[str, int]
    findings: list[Finding]
    skipped: list[Skipped]
    strict: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is no error (and, when strict, no warning)."""
        return not any(self.strict or finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as values that JSON can hold."""
        return {
            "dataset": self.name,
            "ok": self.ok,
            "strict": self.strict,
            "rows": self.rows,
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "what": finding.what,
                    "count": finding.count,
                    "places": [{name: getattr(place, name) for name in place.__slots__} for place in finding.places],
                }
                for finding in self.findings
            ],
            "skipped": {skipped.code: skipped.reason for skipped in self.skipped},
        }


class Findings:
    """Collects findings while rows are read."""

    def __init__(self) -> None:
        self._by_code: dict[str, Finding] = {}

    def add(self, code: str, split: str, row: int | None = None, id: str | None = None, text: str = "") -> None:
        """Note one place. `text` is cut to an excerpt and shown with its invisible characters escaped."""
        severity, what = CODES[code]
        finding = self._by_code.setdefault(code, Finding(code, severity, what))
        finding.count += 1
        if len(finding.places) < FIRST_PLACES:
            finding.places.append(Place(split, row, id, excerpt(text)))

    def sorted(self) -> list[Finding]:
        """Errors first, then by code."""
        return sorted(self._by_code.values(), key=lambda finding: (finding.severity, finding.code))


def excerpt(text: str, at: int = 0) -> str:
    """At most a hundred characters around a place, on one line, everything that can not be seen escaped."""
    start = max(0, min(at - EXCERPT // 3, len(text) - EXCERPT))
    cut = text[start : start + EXCERPT]
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
    return ("…" if start else "") + shown + ("…" if start + EXCERPT < len(text) else "")
