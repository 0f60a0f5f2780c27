"""All checks of a dataset folder, rows and files: a report of what is wrong with it. Knows nothing of how it was made.

Takes any dataset in `messages` form: ours, or a stranger's with other columns or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings
from toolkit.data.collecting import collecting_rarely
from toolkit.data.validation.across import compare_rows, not_comparable
from toolkit.data.validation.findings import CODES, Findings, Report, Skipped
from toolkit.data.validation.habits import Habits
from toolkit.data.validation.near_hits import NearHits
from toolkit.data.validation.remembered import Remembered, Texts
from toolkit.data.validation.row import (
    LONGEST_NAME,
    Add,
    check_answer,
    check_description,
    check_leak,
    check_turns,
    names_of,
)
from toolkit.data.validation.shard_rows import Row, Turn, read_batches
from toolkit.data.validation.shards import TEXT_COLUMNS, Shard, find_files, open_shards, read_own_manifest
from toolkit.data.validation.turns import Conversation, Shared, learn_shared, read_conversation
from toolkit.model import chat

Progress = Callable[[str, int, int | None], None]

SAMPLE = 1_000
"""Rows of each split from which the request that they share is learnt."""

SAMPLED_CHARACTERS = 20_000

REPEATED_ANSWERS = 0.75
"""Answers are names of creatures when such a share of the rows of `train` has an answer that another has too."""

NEVER_NULL = tuple(name for name in TEXT_COLUMNS if not name.startswith("name_"))


@collecting_rarely()
def check_folder(
    path: Path,
    *,
    strict: bool = False,
    tokenizer: Any = None,
    max_length: int | None = None,
    near_duplicate: float | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check every row of a dataset folder. The same rows give the same report.

    Of a million rows it remembers about 400 MB, and comparing their texts takes as much again twice.

    Args:
        path: Folder with Parquet files, in any of the layouts that the Hub recognises.
        strict: Whether warnings count as errors in `Report.ok`.
        tokenizer: A base's, to check that its chat template renders every conversation as training needs it.
        max_length: With a tokenizer, the most tokens that a conversation may have.
        near_duplicate: Similarity from which two texts are nearly the same. Default: what the folder was built with by
            its manifest, else the default of `pkt build-dataset`.
        progress: Called with what is being done, rows done, and rows in all.

    Raises:
        InputError: No such folder, or no Parquet file in it.
    """
    files = find_files(path)
    found = Findings()
    manifest = read_own_manifest(path, found)
    settings = manifest.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    shards = open_shards(files, path, TEXT_COLUMNS if manifest else (), found)
    check = _Check(shards, found, settings, tokenizer, max_length)
    report = progress or (lambda *_: None)
    for done in check.rows():
        report("checking rows", done, sum(shard.rows for shard in shards))
    report("comparing", 0, None)
    check.compare(near_duplicate or _share(settings.get("near_duplicate")))
    report("comparing", 1, 1)
    return Report(check.counts, found.sorted(), check.skipped(), strict)


def _share(value: object) -> float:
    if isinstance(value, int | float) and 0 < value <= 1:
        return float(value)
    return DatasetSettings().near_duplicate


class _Check:
    """One run over a dataset: what the checks of rows gather until all rows were seen."""

    def __init__(
        self, shards: list[Shard], found: Findings, settings: dict[str, Any], tokenizer: Any, max_length: int | None
    ) -> None:
        self.counts = {shard.split: 0 for shard in shards}
        self._shards, self._found, self._tokenizer, self._max_length = shards, found, tokenizer, max_length
        columns = [set(shard.columns) for shard in shards]
        self._columns = set.intersection(*columns) if columns else set()
        self._ours = self._columns >= set(TEXT_COLUMNS)
        self._shared = Shared()
        self._habits = Habits(settings.get("answer"), self._ours)
        self._near = NearHits()
        self._rows = Remembered(list(self.counts))
        self._unnamed = 0
        self._creatures: str | None = None

    def rows(self) -> Iterator[int]:
        """Check each row by itself; yields how many are done."""
        self._shared = learn_shared(self._sample())
        first = dict.fromkeys(self.counts, 0)
        for shard in self._shards:
            for batch in read_batches(shard, first[shard.split], self._found):
                for row in batch:
                    self._check_row(row, shard)
                self.counts[shard.split] += len(batch)
                yield sum(self.counts.values())
            first[shard.split] += shard.rows
        for split, count in self.counts.items():
            if not count:
                self._found.add("schema.empty-split", split)
        if self.counts and "train" not in self.counts:
            self._found.add("schema.no-train", next(iter(self.counts)))

    def _sample(self) -> Iterator[Sequence[Turn]]:
        """The turns of the first rows of each split."""
        for split in self.counts:
            taken = 0
            for shard in self._shards:
                if shard.split == split and taken < SAMPLE:
                    # What is damaged is found when all rows are read.
                    batch = next(read_batches(shard, 0, Findings()), [])[: SAMPLE - taken]
                    yield from (row.turns for row in batch if row.turns and _is_short(row.turns))
                    taken += len(batch)

    def _check_row(self, row: Row, shard: Shard) -> None:
        id = row.values.get("id")

        def add(code: str, text: str, at: int = 0) -> None:
            self._found.add(code, shard.split, row.number, id, text, at)

        missing = [name for name in NEVER_NULL if name in row.values and row.values[name] is None]
        if missing:
            add("schema.null-value", ", ".join(f"`{name}`" for name in missing))
        turns = row.turns
        if not turns or any(turn.role is None and turn.content is None for turn in turns):
            add("schema.null", "")
            return
        sound = check_turns(turns, add)
        self._check_conversation(row, read_conversation(row, turns, self._shared), shard.split, add)
        if sound and self._tokenizer is not None:
            self._check_tokens(turns, add)

    def _check_conversation(self, row: Row, conversation: Conversation, split: str, add: Add) -> None:
        check_answer(row, conversation, add)
        check_description(row, add)
        answer = row.values.get("answer") or conversation.answer
        names = names_of(row, answer)
        self._unnamed += not names
        near = check_leak(conversation.prompt, names, add)
        if near is not None:
            self._near.add(len(self._rows), near)
        id = row.values.get("id")
        self._habits.see(conversation, answer, split, row.number, id)
        creature = row.values.get("creature") if "creature" in self._columns else _label(answer)
        self._rows.add(split, row.number, id, conversation.description, answer, creature, row.values.get("family"))

    def _check_tokens(self, turns: Sequence[Turn], add: Add) -> None:
        messages = [{"role": turn.role or "", "content": turn.content or ""} for turn in turns]
        try:
            length = len(chat.encode(self._tokenizer, messages).input_ids)
        except InputError as error:
            add("tokens.contract", error.found, 0)
            return
        if self._max_length is not None and length > self._max_length:
            add("tokens.length", f"{length} tokens, at most {self._max_length} are allowed", 0)

    def compare(self, near_duplicate: float) -> None:
        """Find what only all rows together show."""
        if "creature" not in self._columns and not self._answers_are_names():
            self._creatures = "no column `creature`, and the answers are no names that come again"
            self._rows.creatures = Texts.missing(len(self._rows))
        self._near.finish(self._rows, self._found)
        self._habits.finish(self._found)
        compare_rows(self._rows, near_duplicate, self._found)

    def _answers_are_names(self) -> bool:
        codes = self._rows.creatures.codes()[self._rows.of_splits("train")]
        _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        again = (counts[inverse] > 1) & (codes >= 0)
        return bool(len(codes)) and float(again.mean()) >= REPEATED_ANSWERS

    def skipped(self) -> list[Skipped]:
        """What could not be checked, in the order of the codes."""
        reasons = {
            code: f"no column {' and '.join(f'`{name}`' for name in missing)}"
            for code, needed in {
                "schema.id": ("id",),
                "schema.answer": ("answer",),
                "lang.description": ("description", "language"),
            }.items()
            if (missing := [name for name in needed if name not in self._columns])
        }
        if self._unnamed:
            reason = f"{self._unnamed:,} rows without a name: no `name_...`, no answer of up to {LONGEST_NAME} letters"
            reasons |= {"leak.own-name": reason, "leak.near-name": reason}
        if self._tokenizer is None:
            reasons |= {"tokens.length": "no tokenizer given", "tokens.contract": "no tokenizer given"}
        elif self._max_length is None:
            reasons["tokens.length"] = "no most length given"
        reasons |= self._habits.skipped() | not_comparable(self._rows, "family" in self._columns, self._creatures)
        return [Skipped(code, reasons[code]) for code in CODES if code in reasons]


def _is_short(turns: Sequence[Turn]) -> bool:
    return sum(len(turn.content or "") for turn in turns) <= SAMPLED_CHARACTERS


def _label(answer: str | None) -> str | None:
    """An answer that may be the name of a creature."""
    return answer if answer and len(answer) <= LONGEST_NAME and "\n" not in answer else None
