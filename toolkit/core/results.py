"""The schema of `evaluation.json`, for its readers, and how its estimates are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, FiniteFloat, ValidationError, model_validator

from toolkit.core.errors import InputError
from toolkit.core.folder import read_json
from toolkit.core.layout import EVALUATION

SCHEMA = 3


class Score(BaseModel):
    """An estimate, with its 95 % interval where there is one."""

    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The lower and the upper end."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def ends(self) -> tuple[float, float]:
        """The interval; without one the value is exact, and both ends are it."""
        return self.interval or (self.value, self.value)


# How an estimate is written: its factor, its format, and what stands behind it.
UNITS = {"share": (100, ".1f", "%"), "points": (100, "+.1f", ""), "plain": (1, ".3f", "")}
NO_BREAK_SPACE = "\u00a0"


def format_estimate(score: Score | None, unit: Literal["share", "points", "plain"] = "share") -> str | None:
    """An estimate with its interval: `31.0% (24.0, 39.0)`, in points `+12.0 (+3.1, +20.9)`, plain `0.310`.

    No line breaks inside an interval, so that it stays whole in a narrow column. None stays None.
    """
    if score is None:
        return None
    factor, form, sign = UNITS[unit]
    value = f"{score.value * factor:{form}}{sign}"
    if score.interval is None:
        return value
    low, high = (f"{end * factor:{form}}" for end in score.interval)
    return f"{value} ({low},{NO_BREAK_SPACE}{high})"


class Shuffled(BaseModel):
    """The control: the adapter's figures when every description is another row's."""

    figures: dict[str, Score]
    difference: dict[str, Score]
    reads: bool | None = None


class Bin(BaseModel):
    """Rows whose first answer had a probability between `low` and `high`, and how often it was right."""

    low: FiniteFloat
    high: FiniteFloat
    rows: int
    confidence: FiniteFloat | None
    accuracy: FiniteFloat | None


class Calibration(BaseModel):
    """Whether the probability of the first answer says how often it is right."""

    bins: list[Bin]
    error: FiniteFloat
    brier: FiniteFloat


class RankRange(BaseModel):
    """How many rows had the right answer between two ranks; in parts where answers are tied."""

    first: int = Field(alias="from")
    to: int | None = None
    rows: int | FiniteFloat

    @property
    def label(self) -> str:
        """`1`, `2–5`, `101+`."""
        if self.to is None:
            return f"{self.first:,}+"
        return f"{self.first:,}" if self.first == self.to else f"{self.first:,}–{self.to:,}"

    @property
    def counted(self) -> str:
        """The rows as a person reads them: `1,234`, `12.5`."""
        return f"{self.rows:,}" if isinstance(self.rows, int) else f"{self.rows:,.1f}"


class Confusion(BaseModel):
    """A wrong first answer, and how often it was given."""

    answer: str
    said: str
    rows: int


class TestSplit(BaseModel):
    """The figures of `test`."""

    rows: int
    creatures: int | None = None
    methods: dict[str, dict[str, Score]]
    differences: dict[str, dict[str, Score]] = {}
    shuffled: Shuffled | None = None
    groups: dict[str, dict[str, dict[str, Score]]] = {}
    places: list[RankRange] = []
    confusions: list[Confusion] = []
    calibration: Calibration | None = None


class Invention(BaseModel):
    """The figures of the names that one method invented: how many names, and shares by name."""

    names: int
    figures: dict[str, Score]

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: Any) -> Any:
        """Everything beside the count that has a value is a figure."""
        if not isinstance(value, Mapping):
            return value
        scores = {key: score for key, score in value.items() if isinstance(score, Mapping) and "value" in score}
        return {"names": value.get("names"), "figures": scores}


class Unseen(BaseModel):
    """The figures of `unseen`, and of the halves of its families: `tuning`, for choosing settings, and `final`."""

    rows: int
    methods: dict[str, Invention]
    halves: dict[str, dict[str, Invention]] = {}


class DatasetRead(BaseModel):
    """What was measured on."""

    id: str
    revision: str | None = None
    content: str


class Settings(BaseModel):
    """How it was measured; `compare`: the baselines and the other adapters beside the adapter."""

    compare: list[str] = []


class Evaluation(BaseModel):
    """An evaluation of the version that this toolkit writes."""

    seed: int
    candidates: int
    dataset: DatasetRead
    settings: Settings = Settings()
    test: TestSplit | None = None
    unseen: Unseen | None = None


def read_evaluation(folder: Path) -> tuple[Evaluation | None, str | None]:
    """The evaluation in an adapter folder, or `older` or `newer` where a toolkit of another version wrote it.

    Raises:
        InputError: `evaluation.json` is damaged.
    """
    file = folder / EVALUATION
    if not file.is_file():
        return None, None
    value = read_json(file)
    schema = value.get("schema") if isinstance(value, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        return None, "older" if schema < SCHEMA else "newer"
    try:
        return Evaluation.model_validate(value), None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{file} is not an evaluation: {place}: {first['msg']}.", "Run `pkt evaluate` again."
        ) from error
