"""What each method answered to each row, and the file that holds it: every figure of an evaluation comes from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

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
        place: Of the right answer among the candidates, 1 is first; ties share the mean of their places.
        log_likelihood: Of the right answer with its end of turn, in nats.
        confidence: Probability of the first candidate among all candidates.
        top: The first candidates, with their `log_likelihoods`.
        shuffled_places: Of the right answer, when the model reads descriptions of other creatures.
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
    log_likelihood: float | None = None
    confidence: float | None = None
    top: list[str] = field(default_factory=list)
    log_likelihoods: list[float] = field(default_factory=list)
    shuffled_places: list[float] = field(default_factory=list)
    greedy: str | None = None
    names: list[str] = field(default_factory=list)
    stopped: list[bool] = field(default_factory=list)


def write_predictions(folder: Path, predictions: Sequence[Prediction]) -> None:
    """Write `predictions.parquet`: a row for each method and row of the dataset, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "str": pa.string(),
        "float": pa.float64(),
        "list[str]": pa.list_(pa.string()),
        "list[float]": pa.list_(pa.float64()),
        "list[bool]": pa.list_(pa.bool_()),
    }
    schema = pa.schema([(one.name, types[str(one.type).removesuffix(" | None")]) for one in fields(Prediction)])
    table = pa.Table.from_pylist([asdict(prediction) for prediction in predictions], schema)
    pq.write_table(table, folder / PREDICTIONS, compression="zstd")


def read_predictions(file: Path) -> list[Prediction]:
    """The predictions in a file that `write_predictions` wrote."""
    import pyarrow.parquet as pq

    return [Prediction(**row) for row in pq.read_table(file).to_pylist()]
