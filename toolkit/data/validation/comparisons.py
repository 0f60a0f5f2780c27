"""Checks that compare rows: repeated texts, families and creatures over splits, near-names, usual scripts, balance.

All but the descriptions lies in one pandas table with Arrow columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toolkit.core.answers import LONGEST_ANSWER_NAME, SAME_SCRIPT, answer_keys, script_of
from toolkit.data.batches import Engine, Rows
from toolkit.data.duplicates import Clusters, cluster_texts, text_digest
from toolkit.data.near_names import FindWords, gives_name_away, words_by_place
from toolkit.data.validation.files import CHECKED_COLUMNS
from toolkit.data.validation.findings import FIRST_PLACES, Findings, Place, excerpt

if TYPE_CHECKING:
    import pandas as pd

NO_TEXT = text_digest("")
NO_CREATURES = "no column `creature`, and too few answers are repeated names"
HELD_OUT_OF_KNOWN = ("validation", "test")
# Answers can stand for creatures when this share of the rows of `train` have an answer that another row has too.
REPEATED_ANSWERS = 0.75
# With fewer answers, none is the usual form.
FEWEST_ANSWERS = 10
# A creature is out of balance with this many times the rows of the median creature, or this many times fewer.
FAR = 5
FEWEST_FOR_MEDIAN = 5
# Of fifty thousand creatures with about as many rows each, one has three instead of seventeen by chance.
LEAST_MORE = 10
LEAST_DEVIATIONS = 5


class ComparedRow(NamedTuple):
    """What is kept of a row until all are read.

    Attributes:
        digest: The `text_digest` of the description.
        request: An excerpt of a request that is not Korean; None for a Korean one.
        creature: Creature of the row, by its column or else its short answer.
        near: A word of the prompt that is nearly its answer's name, and an excerpt: `Wumbat: some call it a Wumbat`.
        unnamed: Whether the row has no name to look for in its prompt.
        compared: Whether the row has turns; nothing but its id is known of others.
    """

    id: str | None
    description: str | None = None
    digest: bytes = b""
    answer: str | None = None
    creature: str | None = None
    family: str | None = None
    request: str | None = None
    near: str | None = None
    unnamed: bool = False
    compared: bool = False


class Compared:
    """The rows that are compared with each other, in their order.

    Attributes:
        frame: All but their descriptions, which stay with the engine.
    """

    def __init__(self, engine: Engine, rows: Rows) -> None:
        self.engine, self.rows = engine, rows
        names = [name for name in ComparedRow._fields if name != "description"]
        small = engine.collect(rows, ["split", "row", *names])
        self.place = np.flatnonzero(small["compared"].to_numpy())
        self.frame = small.filter(small["compared"]).drop_columns(["digest", "compared"]).to_pandas()
        self.digest = np.asarray(small["digest"].to_pylist(), dtype=bytes)

    def descriptions(self, rows: Sequence[int]) -> list[str]:
        """The descriptions of some rows."""
        places = self.place[np.asarray(rows, dtype=np.intp)]
        (found,) = self.engine.take(self.rows, ["description"], places, len(places))
        return list(found["description"].to_pylist())

    def using(self, words: Set[str]) -> Iterator[tuple[str, int]]:
        """Each of some words in each row, and the row."""
        used = self.engine.stream(FindWords(frozenset(words), "description"), self.rows, ["description"])
        # A row that is not compared has no description.
        yield from ((word, int(np.searchsorted(self.place, place))) for word, place in words_by_place(used))

    def clusters(self, of: NDArray[np.bool_], near_duplicate: float, known: Clusters | None) -> NDArray[np.intp]:
        """The first row of the cluster of each of some rows; each other row for itself."""
        digests = np.zeros_like(self.digest)
        digests[self.place[of]] = self.digest[self.place[of]]
        clusters = known.of(digests) if known else None
        if clusters is None:
            clusters = cluster_texts(self.engine, self.rows, "description", digests, near_duplicate)
        return np.searchsorted(self.place, clusters[self.place])


def compare_rows(
    compared: Compared,
    columns: Set[str],
    form: str | None,
    near_duplicate: float,
    clusters: Clusters | None,
    found: Findings,
) -> dict[str, str]:
    """Find faults that only show between rows.

    Args:
        columns: Columns that every file of the dataset has.
        form: The form of answers that the dataset was built with (`en`, `ko`, `both`), None where it is unknown.
        near_duplicate: Similarity from which two texts are nearly the same.
        clusters: Those of the descriptions with that similarity, where they are known.

    Returns:
        By code why a check was not possible.
    """
    rows = compared.frame
    if "creature" not in columns and not _answers_are_names(rows):
        rows["creature"] = None
    _check_near_names(compared, found)
    _add(rows, "schema.id", rows.id.notna() & rows.id.duplicated(), lambda row: excerpt(rows.id[row]), found)
    _check_texts(compared, near_duplicate, clusters, found)
    _check_splits(rows, found)
    _check_balance(rows, found)
    skipped = _check_requests(rows, set(CHECKED_COLUMNS) <= columns, found)
    return skipped | _check_answers(rows, form, found) | _not_comparable(rows, columns)


def _answers_are_names(rows: pd.DataFrame) -> bool:
    """Whether enough answers are repeated names, which can stand for a column `creature`."""
    answers = rows.creature[rows.split == "train"]
    return len(answers) > 0 and bool((answers.notna() & answers.duplicated(keep=False)).mean() >= REPEATED_ANSWERS)


def _add(rows: pd.DataFrame, code: str, where: ArrayLike, describe: Callable[[int], str], found: Findings) -> None:
    """Note a finding for some rows, given as a mask or as their places in order; `describe` takes a place."""
    places = np.asarray(where)
    if places.dtype == bool:
        places = np.flatnonzero(places)
    first = []
    for place in places[:FIRST_PLACES].tolist():
        id = excerpt(rows.id[place]) if isinstance(rows.id[place], str) else None
        first.append(Place(rows.split[place], int(rows.row[place]), id, describe(place)))
    found.add_all(code, len(places), first)


def _codes(column: pd.Series) -> NDArray[np.int64]:
    """A number for each row, the same for the same text; -1 where it is missing."""
    return np.asarray(column.factorize()[0], dtype=np.int64)


def _check_near_names(compared: Compared, found: Findings) -> None:
    """Words that are nearly a name, but for those that texts about others use in lower case."""
    rows = compared.frame
    near = rows.near.dropna()
    owners = _codes(rows.family)
    for column in (rows.creature, rows.answer):
        if (owners < 0).any():
            owners = _codes(column)
    hits = [(text.partition(": ")[0], owner) for text, owner in zip(near, owners[near.index], strict=True)]
    used = compared.using({word.lower() for word, _ in hits}) if hits else ()
    away = np.array(gives_name_away(hits, ((word, owners[row]) for word, row in used)), dtype=bool)
    _add(rows, "leak.near-name", near.index[away], lambda row: str(rows.near[row]), found)


def _check_texts(compared: Compared, near_duplicate: float, clusters: Clusters | None, found: Findings) -> None:
    """Texts that are there twice, or nearly, and texts with two answers. Texts without words are not compared."""
    rows, text = compared.frame, compared.digest[compared.place]
    split, answer = _codes(rows.split), _codes(rows.answer)
    order = np.arange(len(rows))
    _, first, inverse = np.unique(text, return_index=True, return_inverse=True)
    origin = np.where(text == NO_TEXT, order, first[inverse])
    again = origin != order
    elsewhere, differs = split != split[origin], answer != answer[origin]

    def like(how: str, origin: NDArray[np.int64]) -> Callable[[int], str]:
        def describe(row: int) -> str:
            other, (description,) = origin[row], compared.descriptions([row])
            return f"{how} {rows.split[other]} row {rows.row[other]}: {excerpt(description)}"

        return describe

    _add(rows, "dup.exact", again & elsewhere, like("as", origin), found)
    _add(rows, "dup.exact-within", again & ~elsewhere & ~differs, like("as", origin), found)
    _add(rows, "label.conflict", again & differs, like("as", origin), found)

    origin = compared.clusters(~again & (text != NO_TEXT), near_duplicate, clusters)
    near, elsewhere = origin != order, split != split[origin]
    _add(rows, "dup.near", near & elsewhere, like("like", origin), found)
    _add(rows, "dup.near-within", near & ~elsewhere, like("like", origin), found)


def _check_splits(rows: pd.DataFrame, found: Findings) -> None:
    """Families of `unseen` in other splits, its answers in `train`, and creatures of others that `train` lacks."""
    unseen, train = rows.split == "unseen", rows.split == "train"
    straddling = ~unseen & rows.family.isin(rows.family[unseen].dropna().unique())
    _add(rows, "split.family", straddling, lambda row: excerpt(rows.family[row]), found)
    known, held = ({answer: answer_keys(answer) for answer in _names(rows.answer[of])} for of in (train, unseen))
    trained = set().union(*known.values())
    again = rows.answer.isin([answer for answer, keys in held.items() if not trained.isdisjoint(keys)])
    _add(rows, "split.answer", unseen & again, lambda row: excerpt(rows.answer[row]), found)
    if train.any():
        held_out = rows.split.isin(HELD_OUT_OF_KNOWN) & rows.creature.notna()
        unknown = held_out & ~rows.creature.isin(rows.creature[train].unique())
        _add(rows, "split.creature", unknown, lambda row: excerpt(rows.creature[row]), found)


def _names(answers: pd.Series) -> Iterator[str]:
    """The different answers that may be names."""
    return (answer for answer in answers.dropna().unique() if len(answer) <= LONGEST_ANSWER_NAME)


def _check_balance(rows: pd.DataFrame, found: Findings) -> None:
    """Creatures with far more rows of `train` than the median creature, or far fewer, and not by chance.

    The deviation of a count is its root. The places are the creatures' first rows, the most unbalanced first.
    """
    train = rows.creature[rows.split == "train"].dropna()
    _, first, counts = np.unique(_codes(train), return_index=True, return_counts=True)
    if len(counts) < FEWEST_FOR_MEDIAN:
        return
    median = float(np.median(counts))
    often = (counts > FAR * median) & (counts - median >= LEAST_MORE)
    rare = (counts * FAR < median) & (median - counts > LEAST_DEVIATIONS * np.sqrt(median))
    away = np.abs(np.log(counts / median))
    far = sorted(np.flatnonzero(often | rare).tolist(), key=lambda place: (-away[place], first[place]))
    rows_of = {int(train.index[first[place]]): int(counts[place]) for place in far}

    def describe(row: int) -> str:
        return f"{excerpt(rows.creature[row])}: {rows_of[row]:,} rows, {median:g} are usual"

    _add(rows, "balance", np.asarray(list(rows_of), dtype=np.int64), describe, found)


def _check_requests(rows: pd.DataFrame, korean: bool, found: Findings) -> dict[str, str]:
    """Find requests that are not Korean, where they have to be or most are."""
    others = rows.request.notna()
    if not korean and not others.mean() < 0.5:
        return {"lang.request": "most rows have no Korean request"}
    _add(rows, "lang.request", others, lambda row: str(rows.request[row]), found)
    return {}


def _check_answers(rows: pd.DataFrame, form: str | None, found: Findings) -> dict[str, str]:
    """Find answers in another form than that of the dataset, or of nine tenths of them."""
    forms = rows.answer.map({answer: script_of(answer) for answer in rows.answer.dropna().unique()}).dropna()
    shares = forms.value_counts(normalize=True)
    if form is None and len(forms) >= FEWEST_ANSWERS and shares.iloc[0] >= SAME_SCRIPT:
        form = shares.index[0]
    if form is None:
        few = len(forms) < FEWEST_ANSWERS
        why = f"fewer than {FEWEST_ANSWERS} answers" if few else "the answers are in several scripts"
        return {"lang.answer": f"{why}, and no manifest says which is right"}
    _add(rows, "lang.answer", forms.index[forms != form], lambda row: excerpt(rows.answer[row]), found)
    return {}


def _not_comparable(rows: pd.DataFrame, columns: Set[str]) -> dict[str, str]:
    """Checks between rows that this dataset does not allow, and why."""
    splits = set(rows.split.unique())
    one = "only one split has rows" if len(splits) < 2 else ""
    train, unseen = (f"no split `{split}`" if split not in splits else "" for split in ("train", "unseen"))
    held_out = "no split `validation` or `test`" if splits.isdisjoint(HELD_OUT_OF_KNOWN) else ""
    creatures = (NO_CREATURES if rows.creature.isna().all() else "") or train
    few = rows.creature[rows.split == "train"].nunique() < FEWEST_FOR_MEDIAN
    reasons = {
        "dup.exact": one,
        "dup.near": one,
        "split.family": unseen if "family" in columns else "no column `family`",
        "split.answer": unseen or train,
        "split.creature": creatures or held_out,
        "balance": creatures or (f"fewer than {FEWEST_FOR_MEDIAN} creatures in `train`" if few else ""),
    }
    return {code: reason for code, reason in reasons.items() if reason}
