"""Folders that are whole or absent: atomic writing, content hashes, and the manifest that says what made them."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from toolkit import __version__
from toolkit.core.errors import EnvironmentLacks, InputError, ToolkitError
from toolkit.core.layout import EDITED, EVALUATION, MANIFEST, PARQUET, VALIDATION

# What file browsers leave behind.
CLUTTER = (".DS_Store", "Thumbs.db")
LIBRARIES = ("bitsandbytes", "datasets", "huggingface_hub", "peft", "torch", "transformers")


@contextmanager
def atomic_folder(target: Path, kind: str, *, even_changed: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends without an error, it takes the place of `target`.

    A kill or a power cut at any moment leaves the old folder, the new one or none, never a half-written one. An
    existing `target` is replaced only when it is empty or a folder of that `kind` that this toolkit wrote, and, unless
    `even_changed`, nobody changed since. A link is followed.

    Raises:
        InputError: `target` is a file, a mount point or another program's folder, or cannot be written.
        EnvironmentLacks: The disk is full.
    """
    target = target.resolve()
    check_replaceable(target, kind, even_changed=even_changed)
    fresh = _beside(target, "partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        recover(target)
        # In a container the next process often has the same id as the one that was killed.
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield fresh
        for path in (*fresh.rglob("*"), fresh):
            sync(path)
        _replace(fresh, target)
        sync(target.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def copy_folder(source: Path, target: Path, kind: str) -> None:
    """Copy a folder of this kind, as `atomic_folder` writes it; tables, which nothing writes into, are linked."""

    def link(file: str, copy: str) -> None:
        try:
            (os.link if file.endswith(PARQUET) else shutil.copy2)(file, copy)
        except OSError:
            # Some disks have no hard links.
            shutil.copy2(file, copy)

    with atomic_folder(target, kind) as folder:
        shutil.copytree(source, folder, copy_function=link, dirs_exist_ok=True)


def check_replaceable(target: Path, kind: str, *, even_changed: bool = False) -> None:
    """Raise InputError unless `target` is absent, empty, or a folder of this kind as this toolkit wrote it."""
    target = target.resolve()
    if target.is_mount():
        raise InputError(f"{target} is a mount point and cannot be replaced as a whole.", "Choose a folder inside it.")
    if target.is_dir():
        if any(target.iterdir()) and not _is_own(target, kind):
            raise InputError(
                f"{target} is not empty and is not a{'n' * (kind[0] in 'ae')} {kind} folder that pkt wrote.",
                "Choose another output folder, or empty it first.",
            )
        if not even_changed and (changed := changed_by_hand(target)):
            raise InputError(
                f"{target} holds what pkt did not write and cannot make again: {', '.join(changed[:5])}.",
                "Choose another output folder, or move this one away.",
            )
    elif target.exists():
        raise InputError(f"{target} is a file, not a folder.", "Choose another output folder.")


def _is_own(folder: Path, kind: str) -> bool:
    try:
        return is_manifest(json.loads((folder / MANIFEST).read_text(encoding="utf-8")), kind)
    except (FileNotFoundError, IsADirectoryError, ValueError):
        return False


def changed_by_hand(folder: Path) -> list[str]:
    """Files that somebody changed or added since this toolkit wrote the folder; weights are taken as they are."""
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    hashes, edited = manifest.get("files") or {}, manifest.get(EDITED) or {}
    known = {MANIFEST, VALIDATION, *(name for name in hashes if name.endswith(".safetensors"))} - edited.keys()
    there = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    candidates = {name: path for name, path in there.items() if name not in known and path.name not in CLUTTER}
    return [name for name, path in candidates.items() if name in edited or sha256_file(path) != hashes.get(name)]


def keep_edited(folder: Path, facts: Mapping[str, Any], edited: Mapping[str, bytes]) -> dict[str, Any]:
    """Put the cards that somebody wrote back into a folder; the facts of its manifest, with the hashes of these."""
    for name, content in edited.items():
        (folder / name).write_bytes(content)
    kept = {EDITED: {name: sha256_file(folder / name) for name in edited}} if edited else {}
    return {key: value for key, value in facts.items() if key != EDITED} | kept


def refuse_other_results(folder: Path, known: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Raise InputError where the results in a folder were made of other things (`known`) than the `wanted` ones."""
    if other := [name for name, value in wanted.items() if known.get(name) != value]:
        raise InputError(
            f"{folder} holds finished results ({', '.join(f'other {name}' for name in other)}): "
            f"{', '.join(_results(folder))}.",
            "Choose another output folder, or give `restart=True` to replace them once the new ones are whole.",
        )


def _results(folder: Path) -> Iterator[str]:
    """What would be lost with a folder of an adapter or a report."""
    manifest = read_json(folder / MANIFEST)
    if "steps" in manifest:
        yield f"{manifest['steps']:,} steps"
    if (folder / EVALUATION).is_file():
        try:
            top1 = read_json(folder / EVALUATION)["test"]["methods"]["adapter"]["top1"]["value"]
            yield f"evaluated (top-1 of test {top1:.1%})"
        except (InputError, KeyError, TypeError):
            yield "evaluated"
    if changed := changed_by_hand(folder):
        yield f"{' and '.join(changed[:3])} changed or added by hand"
    if manifest.get("repo_id"):
        yield f"published as {manifest['repo_id']}"


def is_manifest(value: Any, kind: str) -> bool:
    """Whether this toolkit wrote this manifest, for a folder of this kind: other tools have a `manifest.json` too."""
    return isinstance(value, dict) and "toolkit" in value and value.get("kind") == kind


def unwritable(path: Path | None, error: OSError) -> ToolkitError:
    """The error for a path that cannot be written: full, read-only, or below a file; by default the error's."""
    reason = error.strerror or str(error)
    where = f"{path} cannot be written: " if path else f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentLacks(f"{where}{reason}.", "Free some space, and run the command again.")
    return InputError(f"{where}{reason}.", "Check the path and its permissions.")


def recover(target: Path) -> None:
    """Remove what killed processes left beside `target`; restore the old folder if a swap was cut in the middle."""
    target = target.resolve()
    leftover = re.compile(rf"\.{re.escape(target.name)}\.(\d+)\.(partial|replaced)")
    for left in target.parent.glob(".*"):
        found = leftover.fullmatch(left.name)
        if found is None or left.is_symlink() or not left.is_dir():
            continue
        pid, what = int(found[1]), found[2]
        if what == "replaced" and (pid == os.getpid() or not psutil.pid_exists(pid)):
            if target.exists():
                shutil.rmtree(left)
            else:
                left.rename(target)
        elif what == "partial" and not psutil.pid_exists(pid):
            shutil.rmtree(left)


def _beside(target: Path, what: str) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.{what}")


def sync(path: Path) -> None:
    """Have the disk hold a file or folder, not only the system's memory; Windows has no such call for folders."""
    if os.name == "nt":
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def lock(file: int, *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file among processes, until it is closed.

    Raises:
        BlockingIOError: Another process has it, and this is not to wait.
        EnvironmentLacks: On Windows, which has no such lock.
    """
    try:
        import fcntl
    except ImportError as error:
        raise EnvironmentLacks("A local Hub and a sweep need a Unix system.", "On Windows, run it in WSL.") from error
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))


def _replace(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = _beside(target, "replaced")
    target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_hashes(folder: Path) -> dict[str, str]:
    """Relative POSIX path to SHA-256 of every file below `folder`, sorted by path, but for manifest and validation."""
    about = (folder / MANIFEST, folder / VALIDATION)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path not in about)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def content_hash(folder: Path) -> str:
    """One SHA-256 for all files of a folder but its manifest: the same content has the same hash anywhere."""
    return json_hash(file_hashes(folder))


def json_hash(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON, whole or not at all: a kill leaves the old file, or none.

    NaN and infinities are refused, since the Hub and most readers refuse them too.
    """
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and onto the disk: a kill or a power cut leaves the old file, or none."""
    with atomic_file(path) as fresh:
        fresh.write_bytes(content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; when the block ends without an error, the file there takes its place, on the disk."""
    fresh = _beside(path, "tmp")
    try:
        yield fresh
        sync(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def holds_nothing(folder: Path, but: str | None = None) -> bool:
    """Whether a folder is empty, but for what a killed `write_json` leaves and one other name."""
    return all(re.fullmatch(r"\..+\.json\.\d+\.tmp", each.name) or each.name == but for each in folder.iterdir())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.", "Name a folder that pkt wrote.") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}.", "Make the folder again.") from error


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows), encoding="utf-8"
    )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; empty when the file does not exist.

    Raises:
        InputError: A line is not JSON.
    """
    if not path.is_file():
        return []
    try:
        # Not splitlines(): a text may hold U+2028, which JSON does not escape.
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON Lines: {error}.", "Make the folder again.") from error


# Keys of a manifest beside a step's facts.
OWN_KEYS = ("kind", "toolkit", "libraries", "python", "files")


def write_manifest(folder: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Write `manifest.json` into a finished folder: the facts of the step that made it, and the hash of every file.

    Args:
        folder: The folder; its other files change no more.
        kind: `dataset`, `adapter` or `base`.
        facts: Recipe, seed, inputs, counts, times.
    """
    manifest = {
        "kind": kind,
        "toolkit": __version__,
        **facts,
        "libraries": library_versions(),
        "python": platform.python_version(),
        "files": file_hashes(folder),
    }
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of a folder of the given kind.

    Raises:
        InputError: No such folder, no manifest in it, or it is of another kind.
    """
    recover(folder.absolute())
    remedy = f"Name a folder that pkt wrote, of the kind {kind}."
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", remedy)
    manifest = read_json(folder / MANIFEST)
    if not is_manifest(manifest, kind):
        raise InputError(f"{folder} is no folder of the kind {kind}.", remedy)
    return dict(manifest)


def manifest_facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that a manifest was written with, to write it again."""
    return {key: value for key, value in manifest.items() if key not in OWN_KEYS}


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide a result, read without importing them."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
