"""Many descriptions and an adapter in; one Parquet file with a row for each, in their order, out.

A part of some hundreds of descriptions is answered by itself, wherever that is, and kept beside the file until all are.
So an interrupted run goes on, and the bytes of the file depend neither on that nor on what computed it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toolkit import __version__
from toolkit.core import Note, Progress, ignore
from toolkit.core.errors import InputError, library_errors
from toolkit.core.folder import atomic_file, json_hash, sha256_file, unwritable
from toolkit.core.layout import CENTROIDS, NAMES_GIVEN, PARQUET
from toolkit.core.text import clean_text
from toolkit.core.workers import EngineName, spread
from toolkit.model import encoder as encoders
from toolkit.model import naming, rank
from toolkit.model.adapter import answers_hash, locate_adapter
from toolkit.model.memory import drawing_machine, halving, memory_errors
from toolkit.model.naming import Described

if TYPE_CHECKING:
    import pyarrow as pa

    Describe = Callable[[str], Described]
    Ask = Callable[[Sequence[Described], Sequence[int]], Sequence[naming.Named | naming.Identified]]

# Descriptions in a part, parts in a row group of the file.
PART, GROUP = 256, 32
# Names that are drawn at once: more are hardly faster on a CPU, and each has the keys and values of its prompt.
AT_ONCE = {"cpu": 64, "cuda": 512}
# Where a file says what it was made of, and there the hash of the descriptions.
ABOUT, ASKED = b"pkt", "descriptions"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about every description.

    Attributes:
        verb: Whether creatures get new names or are identified.
        count: How many names.
        seed: Of the first description; the next one's is one more.
        known: As of `naming.name`.
        candidates: Known names in place of those that the adapter learnt.
        base: Another base than the one that the adapter names.
    """

    verb: Literal["name", "identify"] = "name"
    count: int = NAMES_GIVEN
    seed: int = 0
    known: bool = False
    candidates: tuple[str, ...] | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True)
class AnswersWritten:
    """A file of answers: how many descriptions it has, and how many of them could not be asked."""

    file: Path
    descriptions: int
    refused: int


def answer_all(
    adapter: str | Path,
    descriptions: Iterable[str],
    output: Path,
    question: Question = Question(),
    *,
    revision: str | None = None,
    engine: EngineName = "local",
    restart: bool = False,
    progress: Progress = ignore,
    note: Note = ignore,
) -> AnswersWritten:
    """Ask an adapter, or an encoder, about any number of descriptions, which are read as they are needed.

    An interrupted run goes on where it stopped, with the same arguments and descriptions. A row of the file has `row`
    (from 1), `description`, `error` (why it was not asked), and `seed`, `names`, `nearest` or `candidates`, as `Named`
    and `Identified` have them.

    Args:
        adapter: Folder or Hub id.
        descriptions: Texts in English or Korean.
        output: The Parquet file to write; replaced only if it is of this toolkit, by `restart` or the same run.
        question: What is asked.
        revision: Commit, branch or tag of an adapter on the Hub.
        engine: `ray` for the workers of a Ray cluster, each of which loads the adapter, from its folder or the Hub.
        restart: Begin anew, whatever was answered before.
        progress: Called after each part.
        note: Called when an interrupted run goes on.

    Raises:
        InputError: The output holds something else, or answers of other descriptions, settings or weights; or as
            `naming.open_adapter`.
        HubError, EnvironmentLacks: As `naming.open_adapter` and `spread`.
    """
    folder = Path(adapter) if encoders.is_encoder(adapter) else locate_adapter(str(adapter), revision)
    done = 0
    with closing(_Kept(output, _about(folder, question), restart)) as kept:
        if kept.whole is not None:
            note(f"{output} is whole: no description is asked again.")
        elif kept.parts:
            note(f"Continuing an interrupted run: {len(kept.parts):,} parts of {PART} descriptions are answered.")

        def answered(count: int) -> None:
            nonlocal done
            done += count
            progress(question.verb, done, None)

        def missing() -> Iterator[tuple[int, list[str]]]:
            texts = iter(descriptions)
            while part := list(islice(texts, PART)):
                if kept.has(part):
                    answered(len(part))
                else:
                    yield (len(kept.asked) - 1) * PART, part

        for first, table in spread(partial(_load, folder, question), missing(), engine):
            kept.keep(first // PART, table)
            answered(len(table))
        return kept.joined()


def _about(folder: Path, question: Question) -> dict[str, Any]:
    """What decides the answers, beside the descriptions."""
    settings: dict[str, Any] = asdict(question) | {"candidates": json_hash(question.candidates)}
    if encoders.is_encoder(folder):
        weights = [sha256_file(folder / encoders.WEIGHTS), sha256_file(folder / CENTROIDS)]
    else:
        told = naming.told(folder, question.candidates)
        asked = [told["request"], told["system"], told["decoding"].model_dump()]
        weights = [answers_hash(folder, "none", question.base), *asked]
    settings.pop("base")
    return {"toolkit": __version__, "adapter": json_hash(weights), "settings": settings, "machine": drawing_machine()}


class _Kept:
    """The answered parts, each a file beside the output.

    Attributes:
        asked: The hash of the descriptions of each part so far.
        parts: The numbers of those that are answered.
        whole: What the output was made of, where it is finished.
    """

    def __init__(self, output: Path, about: Mapping[str, Any], restart: bool) -> None:
        self.output, self.about, self.folder = output, about, output.with_name(f"{output.name}.parts")
        self.asked: list[str] = []
        if output.suffix != PARQUET:
            raise InputError(f"{output} does not end in {PARQUET}.", "Name a Parquet file to write.")
        whole = [output] if output.exists() else []
        # Whoever began to replace it, goes on without being asked again; somebody else's file is never replaced.
        facts = [_made_of(file) for file in whole]
        if restart:
            shutil.rmtree(self.folder, ignore_errors=True)
        files = sorted(self.folder.glob(f"{'[0-9]' * 6}{PARQUET}"))
        self.whole = facts[0] if facts and not files and not restart else None
        for file in files[:1] or (whole if self.whole else []):
            there = _made_of(file)
            if other := [f"other {name}" for name, value in about.items() if there.get(name) != value]:
                self._refuse(file, ", ".join(other))
        self.parts = {int(file.stem) for file in files}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from error

    def _refuse(self, file: Path, other: str) -> None:
        raise InputError(
            f"{file} holds answers of {other}.", "Choose another output, or give `restart=True` to replace them."
        )

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}{PARQUET}"

    def has(self, part: Sequence[str]) -> bool:
        """Whether the next part is answered."""
        number = len(self.asked)
        self.asked.append(json_hash(part))
        if self.whole is not None or number not in self.parts:
            return self.whole is not None
        if _made_of(self._file(number))[ASKED] != self.asked[-1]:
            self._refuse(self._file(number), "other descriptions")
        return True

    def keep(self, number: int, table: pa.Table) -> None:
        """Keep the answers to a part."""
        self._write(self._file(number), self.asked[number], [table])

    def _write(self, file: Path, asked: str, tables: Iterable[pa.Table]) -> None:
        import pyarrow.parquet as pq

        schema = _schema(self.about["settings"]["verb"]).with_metadata(
            {ABOUT: json.dumps({**self.about, ASKED: asked})}
        )
        try:
            with atomic_file(file) as fresh, pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table)
        except OSError as error:
            raise unwritable(file, error) from error

    def joined(self) -> AnswersWritten:
        """Write the output from all parts, unless it is whole already, and remove these."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        asked = json_hash(self.asked)
        if self.whole is None:
            files = [self._file(number) for number in range(len(self.asked))]
            groups = (files[first : first + GROUP] for first in range(0, len(files), GROUP))
            self._write(self.output, asked, (pa.concat_tables(map(pq.read_table, group)) for group in groups))
        elif self.whole[ASKED] != asked:
            self._refuse(self.output, "other descriptions")
        shutil.rmtree(self.folder)
        errors = pq.read_table(self.output, columns=["error"])["error"]
        return AnswersWritten(self.output, len(errors), len(errors) - errors.null_count)

    def close(self) -> None:
        """Leave the parts for another run."""
        with suppress(OSError):
            self.folder.rmdir()


def _made_of(file: Path) -> dict[str, Any]:
    """What a file of answers was made of."""
    import pyarrow.parquet as pq

    with library_errors(f"{file} is no file of answers", "Choose another output."):
        facts: dict[str, Any] = json.loads(pq.read_schema(file).metadata[ABOUT])
    return facts


def _schema(verb: str) -> pa.Schema:
    """The columns: those of `Named` or `Identified`, with the place of a description and why it was not asked."""
    import pyarrow as pa

    text, share = pa.string(), pa.float64()
    known = pa.list_(pa.struct({"name": text, "probability": share}))
    columns = {"row": pa.int64(), "description": text, "error": text}
    if verb == "identify":
        return pa.schema(columns | {"candidates": known})
    name = {"name": text, "probability": share, "known": pa.bool_(), "nearest": text, "distance": pa.int64()}
    return pa.schema(columns | {"seed": pa.int64(), "names": pa.list_(pa.struct(name)), "nearest": known})


def _load(folder: Path, question: Question) -> Callable[[tuple[int, list[str]]], tuple[int, pa.Table]]:
    """What answers a part: called in each worker."""
    count = question.count
    if encoders.is_encoder(folder):
        encoder = encoders.open_encoder(folder)
        describe: Describe = partial(encoders.described, encoder)
        return partial(
            _answered, question, describe, lambda asked, _: encoders.identify_each(encoder, asked, count), PART
        )
    answerer = naming.open_adapter(folder, question.candidates, base=question.base)
    describe, at_once = partial(naming.described, answerer), rank.prompts_at_once(answerer.model)
    if question.verb == "identify":
        return partial(
            _answered, question, describe, lambda asked, _: naming.identify_each(answerer, asked, count), at_once
        )
    drawn = count if question.known else naming.CHOICE * count
    at_once = max(1, AT_ONCE.get(answerer.model.device.type, AT_ONCE["cpu"]) // drawn)
    ask = partial(naming.name_each, answerer, known=question.known)
    return partial(_answered, question, describe, lambda asked, seeds: ask(asked, count, seeds), at_once)


def _answered(
    question: Question, describe: Describe, ask: Ask, at_once: int, part: tuple[int, list[str]]
) -> tuple[int, pa.Table]:
    """The place of a part's first description, and its rows. Texts of about one length are asked together."""
    import pyarrow as pa

    first, texts = part
    lines: list[dict[str, Any]] = []
    asked: dict[int, Described] = {}
    for place, text in enumerate(texts):
        lines.append({"row": first + place + 1, "seed": question.seed + first + place, "description": clean_text(text)})
        try:
            asked[place] = describe(text)
        except InputError as error:
            lines[place]["error"] = str(error)

    def answer(places: Sequence[int], most: int) -> None:
        for some in (places[start : start + most] for start in range(0, len(places), most)):
            answers = ask([asked[place] for place in some], [lines[place]["seed"] for place in some])
            for place, one in zip(some, answers, strict=True):
                lines[place] |= asdict(one)

    order = sorted(asked, key=lambda place: len(asked[place].prompt))
    with memory_errors():
        for start in range(0, len(order), at_once):
            some = order[start : start + at_once]
            halving(len(some), partial(answer, some))
    return first, pa.Table.from_pylist(lines, _schema(question.verb))
