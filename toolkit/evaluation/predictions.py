"""What each method answered to each row, and the file that holds it: every figure of an evaluation comes from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.evaluation.ranks import Place

PREDICTIONS = "predictions.parquet"


@dataclass(slots=True)
class Prediction:
    """What one method answered to one row of the dataset. What it was not asked for is None or empty.

    Attributes:
        method: `adapter`, `base`, a baseline or another adapter.
        split: `test` or `unseen`.
        id: Of the row.
        creature: What the row is about; rows of one creature are no independent witnesses.
        answer: The right answer.
        attributes: JSON text, what the dataset knows of the creature.
        place: Of the right answer among the candidates, 1 is first; answers that nothing tells apart share the mean of
            their places.
        tied: How many answers share its place, itself included.
        log_likelihood: Of the right answer with its end of turn, in nats.
        confidence: Probability of the first candidate among all candidates.
        top: The first candidates, with their `log_likelihoods`.
        shuffled_places: Of the right answer, when the model reads descriptions of other creatures.
        shuffled_tied: How many answers share each of those places.
        greedy: The likeliest name, token by token.
        names: Names that were sampled.
        stopped: For each of them, whether the model ended its turn by itself.
    """

    method: str
    split: str
    id: str
    creature: str
    answer: str
    attributes: str
    place: float | None = None
    tied: int | None = None
    log_likelihood: float | None = None
    confidence: float | None = None
    top: list[str] = field(default_factory=list)
    log_likelihoods: list[float] = field(default_factory=list)
    shuffled_places: list[float] = field(default_factory=list)
    shuffled_tied: list[int] = field(default_factory=list)
    greedy: str | None = None
    names: list[str] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)

    def ranked(self) -> Place:
        """Where the right answer stands.

        Raises:
            ValueError: The method ranked nothing for this row.
        """
        if self.place is None or self.tied is None:
            raise ValueError(f"{self.method} did not rank row {self.id}")
        return Place(self.place, self.tied)

    def shuffled(self) -> list[Place]:
        """Where it stands after descriptions of other creatures."""
        return [Place(*each) for each in zip(self.shuffled_places, self.shuffled_tied, strict=True)]


def write_predictions(folder: Path, predictions: Sequence[Prediction]) -> None:
    """Write `predictions.parquet`: a row for each method and row of the dataset, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "str": pa.string(),
        "int": pa.int64(),
        "float": pa.float64(),
        "list[str]": pa.list_(pa.string()),
        "list[int]": pa.list_(pa.int64()),
        "list[float]": pa.list_(pa.float64()),
        "list[bool]": pa.list_(pa.bool_()),
    }
    schema = pa.schema([(one.name, types[str(one.type).removesuffix(" | None")]) for one in fields(Prediction)])
    table = pa.Table.from_pylist([asdict(prediction) for prediction in predictions], schema)
    pq.write_table(table, folder / PREDICTIONS, compression="zstd")


def read_predictions(file: Path) -> list[Prediction]:
    """The predictions in a file that `write_predictions` wrote.

    Raises:
        InputError: Another version of the toolkit wrote it: it holds more or less.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    if set(table.column_names) != {one.name for one in fields(Prediction)}:
        raise InputError(f"{file} was written by another version of pkt.", "Run `pkt evaluate` again.")
    return [Prediction(**row) for row in table.to_pylist()]
