"""A dataset, and one of its rows as the tokens that a base reads: what is supervised, and what is only read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError, after_saying
from toolkit.data.dataset import LocatedDataset, count_rows, read_split
from toolkit.model import chat
from toolkit.model.base import locate_base_to_load
from toolkit.model.loading import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LOST = "\ufffd"


@dataclass(frozen=True, slots=True)
class Piece:
    """A token as text; or several, where each alone is only a part of a character.

    Attributes:
        text: What they stand for, the names of special tokens too.
        ids: Their ids.
        supervised: Whether training learns to write them.
    """

    text: str
    ids: list[int]
    supervised: bool


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """A dataset at a glance, and one row as training reads it.

    Attributes:
        id: Hub id, or the folder's name; `revision` is its commit on the Hub.
        toolkit: The version of pkt that made it; None for a dataset of others.
        rows: Rows of each split that there is.
        split: The split of the row, which is number `row` in it, from 0, and has the id `row_id`, if any.
        base: Whose tokenizer and chat template make the tokens.
        tokens: How many there are, and `supervised` of them at the end.
        pieces: The tokens as text, in order.
    """

    id: str
    revision: str | None
    toolkit: str | None
    rows: dict[str, int]
    split: str
    row: int
    row_id: str | None
    base: str
    tokens: int
    supervised: int
    pieces: list[Piece]


def inspect_dataset(dataset: LocatedDataset, base: str, row: int = 0, split: str | None = None) -> DatasetReport:
    """A dataset's splits, and one row as tokens; only the tokenizer of the base is downloaded.

    Args:
        dataset: Where it is.
        base: Hub id or folder.
        row: Counted from 0.
        split: By default the first that has rows.

    Raises:
        InputError: There is no such split or row, or training would refuse the row.
        HubError, EnvironmentLacks: As `locate_base_to_load`.
    """
    rows = {name: count for name in dataset.files() if (count := count_rows(dataset, name))}
    split = split or next(iter(rows), "train")
    if not 0 <= row < rows.get(split, 0):
        there = ", ".join(f"{name} 0 to {count - 1}" for name, count in rows.items()) or "none"
        raise InputError(f"The dataset {dataset.id} has no row {row} in its split {split}.", f"Its rows are {there}.")
    found = read_split(dataset, split)[row]
    tokenizer = load_tokenizer(locate_base_to_load(base, weights=False).path)
    with after_saying(f"Row {row} of {split}:"):
        example = chat.encode(tokenizer, found["messages"])
        chat.check_beginning(tokenizer, example.input_ids)
    return DatasetReport(
        id=dataset.id,
        revision=dataset.revision,
        toolkit=dataset.manifest().get("toolkit"),
        rows=rows,
        split=split,
        row=row,
        row_id=found.get("id"),
        base=base,
        tokens=len(example.input_ids),
        supervised=len(example.answer_ids),
        pieces=list(pieces(tokenizer, example.input_ids, example.answer_start)),
    )


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], answer_start: int) -> Iterator[Piece]:
    """Token ids as readable text: a character of several tokens stays whole, and no blank between tokens is lost."""

    def decode(first: int, end: int) -> str:
        return str(tokenizer.decode(ids[first:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    borders = {answer_start, len(ids), *(at for at, token in enumerate(ids) if token in tokenizer.all_special_ids)}
    begun = shown = 0
    for end in range(1, len(ids) + 1):
        # Decoded behind the piece before: many tokenizers write no blank at the beginning of a text.
        before, text = decode(begun, shown), decode(begun, end)
        if text.endswith(LOST) and end not in borders:
            continue
        yield Piece(text[len(before) :], list(ids[shown:end]), shown >= answer_start)
        begun, shown = shown, end
