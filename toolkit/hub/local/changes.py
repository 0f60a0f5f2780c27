"""What differs between two commits: which files, and inside those that are short texts, which lines."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.hub.local.objects import FileEntry

Files = Mapping[str, FileEntry]

LONGEST_TEXT = 200_000  # bytes; longer files are not compared line by line
LONGEST_DIFF = 2_000  # lines
MOST_COMPARED = 50  # files


@dataclass(frozen=True)
class Change:
    """One file that differs. `old_path` is another one when the file was moved from there, `was` the entry there."""

    path: str
    old_path: str
    was: FileEntry | None
    now: FileEntry | None

    @property
    def kind(self) -> str:
        if self.old_path != self.path:
            return "renamed"
        return "added" if self.was is None else "removed" if self.now is None else "changed"


def same(one: FileEntry | None, other: FileEntry | None) -> bool:
    """Whether two entries hold the same content, kept the same way."""
    if one is None or other is None:
        return one is other
    return (one.sha256, one.lfs) == (other.sha256, other.lfs)


def changed_paths(before: Files, after: Files) -> list[str]:
    """The paths whose content differs, in their order."""
    return sorted(path for path in {*before, *after} if not same(before.get(path), after.get(path)))


def changes(before: Files, after: Files) -> list[Change]:
    """What differs, a removed and an added file of the same content taken as one that was renamed."""
    paths = changed_paths(before, after)
    removed = {before[path].sha256: path for path in reversed(paths) if path not in after}
    found = []
    for path in paths:
        was, now = before.get(path), after.get(path)
        if was is None and now is not None and now.sha256 in removed:
            old_path = removed.pop(now.sha256)
            found.append(Change(path, old_path, before[old_path], now))
        else:
            found.append(Change(path, path, was, now))
    moved = {change.old_path for change in found if change.kind == "renamed"}
    return [change for change in found if change.kind == "renamed" or change.path not in moved]


def line_diff(change: Change, blob: Callable[[str], Path]) -> list[str]:
    """The lines that differ, as a unified diff; empty for binary, large and merely renamed files."""
    if same(change.was, change.now):
        return []
    texts = [text_lines(entry, blob) for entry in (change.was, change.now)]
    if texts[0] is None or texts[1] is None:
        return []
    lines = difflib.unified_diff(texts[0], texts[1], change.old_path, change.path, lineterm="")
    return [line for _, line in zip(range(LONGEST_DIFF), lines, strict=False)]


def text_lines(entry: FileEntry | None, blob: Callable[[str], Path]) -> list[str] | None:
    """The lines of a text, none of an absent file; None for what is not compared."""
    if entry is None:
        return []
    if entry.size > LONGEST_TEXT:
        return None
    content = blob(entry.sha256).read_bytes()
    if b"\0" in content:
        return None
    return content.decode("utf-8", "replace").splitlines()
