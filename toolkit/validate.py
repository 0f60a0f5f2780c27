"""A folder of chat rows to a report of what is wrong with it. Knows nothing of how the folder was made.

Takes any dataset in `messages` form: ours, or a stranger's with other columns or none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftfy.badness import is_bad

from toolkit import chat
from toolkit.across import AcrossRows
from toolkit.errors import InputError
from toolkit.findings import Findings, Report, Skipped, excerpt
from toolkit.folder import MANIFEST, read_json, sha256_file
from toolkit.masking import names_of_answer, own_names_in
from toolkit.rows import REJECTED, SPLITS
from toolkit.text import BIDI, CONTROL_TOKEN, INVISIBLE, fits_language

if TYPE_CHECKING:
    import pyarrow.parquet

Progress = Callable[[str, int, int | None], None]

BATCH_ROWS = 2_000
# Longer answers are sentences, whose words may stand in the prompt.
LONGEST_NAME = 60
TEXT_COLUMNS = ("id", "answer", "description", "creature", "family", "name_en", "name_ko", "language")
NEEDS = {
    "schema.id": ("id",),
    "schema.answer": ("answer",),
    "split.family": ("family",),
    "split.creature": ("creature",),
    "lang.description": ("description", "language"),
}
"""Checks that need columns which a stranger's dataset may lack."""

_SHARD = re.compile(r"[-_.]?\d{4,6}(?:-of-\d{4,6})?$")


def validate_dataset(
    path: Path,
    *,
    strict: bool = False,
    tokenizer: Any = None,
    max_length: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check every row of a dataset folder, in one pass that holds a few thousand rows at a time.

    Args:
        path: Folder with Parquet files, in any of the layouts that the Hub recognises.
        strict: Whether warnings count as errors in `Report.ok`.
        tokenizer: A base's, to check that its chat template renders every conversation as training needs it.
        max_length: With a tokenizer, the most tokens that a conversation may have.
        progress: Called with what is being done, rows done, and rows in all.

    Raises:
        InputError: No such folder, or no Parquet file in it.
    """
    files = _files_by_split(path)
    found = Findings()
    _check_manifest(path, found)
    opened = _open_all(files, found)
    columns = [set(file.schema_arrow.names) for files in opened.values() for file in files]
    common = set.intersection(*columns) if columns else set()
    across = AcrossRows(found, common)
    report = progress or (lambda *_: None)
    total = sum(file.metadata.num_rows for files in opened.values() for file in files)
    splits: dict[str, int] = {}
    done = 0
    for split, parts in opened.items():
        splits[split] = 0
        for batch in (batch for file in parts for batch in _batches(file, split, found)):
            for row in batch:
                sound = _check_row(row, split, splits[split], found, across)
                if sound and tokenizer is not None:
                    _check_tokens(row, split, splits[split], found, tokenizer, max_length)
                splits[split] += 1
            done += len(batch)
            report("checking rows", done, total)
        if not splits[split]:
            found.add("schema.empty-split", split)
    if opened and "train" not in splits:
        found.add("schema.no-train", next(iter(splits)))
    report("comparing", 0, None)
    across.finish()
    skipped = {
        code: f"no column {' and '.join(f'`{name}`' for name in missing)}"
        for code, needed in NEEDS.items()
        if (missing := [name for name in needed if name not in common])
    } | across.skipped()
    if tokenizer is None:
        skipped |= {"tokens.length": "no tokenizer given", "tokens.contract": "no tokenizer given"}
    return Report(path.name, splits, found.sorted(), [Skipped(*each) for each in skipped.items()], strict)


def _files_by_split(path: Path) -> dict[str, list[Path]]:
    """Parquet files by split, known splits first. What the build rejected is no split."""
    if not path.is_dir():
        raise InputError(f"There is no dataset folder {path}.", "Make one with `pkt build-dataset`.")
    files = sorted(file for file in path.rglob("*.parquet") if file != path / REJECTED)
    if not files:
        raise InputError(f"{path} has no Parquet file.", "Name a folder with Parquet files of chat rows.")
    by_split: dict[str, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file, path), []).append(file)
    return {split: by_split[split] for split in sorted(by_split, key=lambda name: (_rank(name), name))}


def _split_of(file: Path, root: Path) -> str:
    """`data/train-00000-of-00002.parquet` and `default/train/0000.parquet` are both of `train`."""
    stem = _SHARD.sub("", file.stem)
    if stem:
        return stem
    return file.parent.name if file.parent != root else "train"


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _check_manifest(path: Path, found: Findings) -> None:
    """Every file that the manifest tells of is there, with the hash that it tells."""
    if not (path / MANIFEST).is_file():
        return
    manifest = read_json(path / MANIFEST)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    for name, digest in sorted(listed.items()) if isinstance(listed, dict) else ():
        file = path / name
        if not file.is_file():
            if file.suffix == ".parquet" and name != REJECTED:
                found.add("manifest.hash", name, text="missing")
        elif sha256_file(file) != digest:
            found.add("manifest.hash", name, text="changed since it was written")


def _open_all(files: Mapping[str, list[Path]], found: Findings) -> dict[str, list[pyarrow.parquet.ParquetFile]]:
    import pyarrow
    import pyarrow.parquet

    opened: dict[str, list[pyarrow.parquet.ParquetFile]] = {}
    for split, paths in files.items():
        for path in paths:
            try:
                file = pyarrow.parquet.ParquetFile(path)
            except (pyarrow.ArrowException, OSError):
                found.add("schema.file", split, text=path.name)
                continue
            if not _has_messages(file.schema_arrow):
                found.add("schema.messages", split, text=f"{path.name}: columns {', '.join(file.schema_arrow.names)}")
                continue
            for name in TEXT_COLUMNS:
                if name in file.schema_arrow.names and not _is_text(file.schema_arrow.field(name).type):
                    found.add(
                        "schema.column", split, text=f"{path.name}: `{name}` is {file.schema_arrow.field(name).type}"
                    )
            opened.setdefault(split, []).append(file)
    return opened


def _has_messages(schema: Any) -> bool:
    import pyarrow.types as types

    if "messages" not in schema.names:
        return False
    kind = schema.field("messages").type
    if not (types.is_list(kind) or types.is_large_list(kind)) or not types.is_struct(kind.value_type):
        return False
    fields = {field.name: field.type for field in kind.value_type}
    return all(name in fields and _is_text(fields[name]) for name in ("role", "content"))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)
    )


def _batches(file: pyarrow.parquet.ParquetFile, split: str, found: Findings) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file, as far as they can be read."""
    import pyarrow

    schema = file.schema_arrow
    wanted = [
        "messages",
        *(name for name in TEXT_COLUMNS if name in schema.names and _is_text(schema.field(name).type)),
    ]
    try:
        with file:
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                yield batch.to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError):
        found.add("schema.file", split, text="damaged in the middle")


def _check_row(row: dict[str, Any], split: str, number: int, found: Findings, across: AcrossRows) -> bool:
    """All checks of one row by itself; whether its conversation is one that a chat template can render."""
    id = row.get("id")

    def add(code: str, text: str) -> None:
        found.add(code, split, number, id, text)

    messages = row["messages"]
    if not messages or any(message is None for message in messages):
        add("schema.null", "")
        return False
    roles = [message["role"] for message in messages]
    in_order = _roles_in_order(roles)
    if not in_order:
        add("chat.roles", " → ".join(map(str, roles)))
    texts = [message["content"] or "" for message in messages]
    empty = next((message for message in messages if not (message["content"] or "").strip()), None)
    if empty is not None:
        add("chat.empty", f"the turn of {empty['role']}")
    for text in texts:
        _check_text(text, add)
    if row.get("description") and row.get("language") and not fits_language(row["description"], row["language"]):
        add("lang.description", row["description"])
    last = texts[-1] if roles[-1] == "assistant" else None
    answer = row.get("answer") or last
    if row.get("answer") is not None and last is not None and row["answer"] != last:
        add("schema.answer", f"{row['answer']} / {last}")
    prompt = "\n\n".join(text for role, text in zip(roles, texts, strict=True) if role != "assistant")
    _check_leak(row, answer, prompt, add)
    across.add(row, split, number, prompt, answer)
    return in_order and empty is None and not any(map(CONTROL_TOKEN.search, texts))


def _check_tokens(
    row: dict[str, Any], split: str, number: int, found: Findings, tokenizer: Any, max_length: int | None
) -> None:
    try:
        length = len(chat.encode(tokenizer, row["messages"]).input_ids)
    except InputError as error:
        found.add("tokens.contract", split, number, row.get("id"), error.found)
        return
    if max_length is not None and length > max_length:
        found.add("tokens.length", split, number, row.get("id"), f"{length} tokens, at most {max_length} are allowed")


def _roles_in_order(roles: list[str | None]) -> bool:
    """An optional system turn, then user and assistant by turns, the assistant last."""
    turns = roles[1:] if roles[0] == "system" else roles
    return len(turns) > 0 and len(turns) % 2 == 0 and turns == ["user", "assistant"] * (len(turns) // 2)


def _check_text(text: str, add: Callable[[str, str], None]) -> None:
    for code, pattern in (("chat.control-token", CONTROL_TOKEN), ("text.control", INVISIBLE), ("text.bidi", BIDI)):
        hit = pattern.search(text)
        if hit:
            add(code, excerpt(text, hit.start()))
    if "\ufffd" in text or (not text.isascii() and is_bad(text)):
        add("text.mojibake", text)
    if not unicodedata.is_normalized("NFC", text):
        add("text.not-nfc", text)


def _check_leak(row: dict[str, Any], answer: str | None, prompt: str, add: Callable[[str, str], None]) -> None:
    """The names of the row in its prompt, matched as masking matches a creature's own names."""
    names = [name for column in ("name_en", "name_ko") if (name := row.get(column))]
    if answer and len(answer) <= LONGEST_NAME:
        names += names_of_answer(answer)
    for text in dict.fromkeys((row.get("description") or "", prompt)):
        text = unicodedata.normalize("NFC", text)
        places = own_names_in(text, names)
        if places:
            add("leak.own-name", excerpt(text, places[0][0]))
            return
