"""The commits of one repository, each with what it changed, in one SQLite file.

    commits     seq counts up; `about` holds title, message, author and date
    changes     a file's entry as a commit made it; nulls where it removed the file

A commit takes room for what it changes. Each has one parent, so commits form lines: the first that follows a commit is
on its line; another begins a line, which is called by the `seq` of its first commit. The files of a commit are the
newest changes of its line up to the commit, and of the line that this one branched from up to there, and so on.
"""

import errno
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.hub.local.objects import (
    FileEntry,
    RefusedError,
    entry_not_found,
    malformed,
    parent_folders,
    repo_not_found,
)

HISTORY = "history.sqlite"  # its name in a repository's folder
_SECONDS = 60.0  # that a reader or writer waits for another

_TABLES = """
CREATE TABLE commits (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, parent INTEGER, line INTEGER NOT NULL, about TEXT NOT NULL);
CREATE INDEX lines ON commits (line);
CREATE TABLE changes (
    path TEXT NOT NULL, line INTEGER NOT NULL, seq INTEGER NOT NULL, sha256 TEXT, size INTEGER, oid TEXT, lfs INTEGER,
    PRIMARY KEY (path, line, seq)) WITHOUT ROWID;
"""
_COMMITS = """
SELECT commits.id, before.id, commits.about FROM commits LEFT JOIN commits AS before ON before.seq = commits.parent
"""
_ANCESTRY = """
commits.seq IN (
    WITH RECURSIVE back (seq) AS (
        SELECT seq FROM commits WHERE id = ?
        UNION ALL SELECT parent FROM commits JOIN back USING (seq) WHERE parent IS NOT NULL)
    SELECT seq FROM back) ORDER BY commits.seq DESC
"""
_PARENT = """
SELECT seq, line, EXISTS (SELECT 1 FROM commits AS later WHERE later.line = commits.line AND later.seq > commits.seq)
FROM commits WHERE id = ?
"""
# `part`: the lines of a commit, each with the last `seq` that counts. CROSS JOIN: go through the changes by path.
_FILES = """
WITH RECURSIVE part (line, last) AS (
    SELECT line, seq FROM commits WHERE id = :commit
    UNION ALL SELECT before.line, before.seq FROM part
        JOIN commits AS first ON first.seq = part.line JOIN commits AS before ON before.seq = first.parent)
SELECT path, sha256, size, oid, lfs, max(seq)
FROM changes CROSS JOIN part ON part.line = changes.line AND seq <= last WHERE {chosen} GROUP BY path ORDER BY path
"""
_BETWEEN = _FILES.format(chosen="path > :start AND path < :end")
_CHOSEN = _FILES.format(chosen="path IN (SELECT value FROM json_each(:paths))")


@dataclass(frozen=True)
class Files:
    """The files of a commit by path, read whenever they are asked for: by `db`, while the commit is made."""

    history: Path
    commit_id: str
    db: sqlite3.Connection | None = None

    def find(self, paths: Iterable[str]) -> dict[str, FileEntry]:
        """Those of `paths` that are files, in one go."""
        return self._read(_CHOSEN, paths=json.dumps(list(paths)))

    def below(self, folder: str = "") -> dict[str, FileEntry]:
        """Every file below a folder, at any depth; by path."""
        start, end = (f"{folder}/", f"{folder}0") if folder else ("", b"")  # 0 follows /, and bytes follow texts
        return self._read(_BETWEEN, start=start, end=end)

    def get(self, path: str) -> FileEntry | None:
        return self.find([path]).get(path)

    def _read(self, query: str, **values: str | bytes) -> dict[str, FileEntry]:
        with _opened(self.history) if self.db is None else nullcontext(self.db) as db:
            rows = db.execute(query, {"commit": self.commit_id, **values}).fetchall()
        return {
            path: FileEntry(sha256, size, oid, bool(lfs), by) for path, sha256, size, oid, lfs, by in rows if sha256
        }


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Files


# Read


def find_commit(history: Path, revision: str) -> Commit | None:
    """The one commit whose id begins with `revision`."""
    found = _commits(history, "commits.id BETWEEN ?1 AND ?1 || 'g' LIMIT 2", revision)
    return found[0] if len(found) == 1 else None


def ancestry(history: Path, commit_id: str) -> list[Commit]:
    """A commit and all before it, newest first."""
    return _commits(history, _ANCESTRY, commit_id)


def last_change(history: Path, entries: Iterable[FileEntry]) -> Commit:
    """The newest commit that changed one of these files."""
    return _commits(history, "commits.seq = ?", max(entry.changed for entry in entries))[0]


def _commits(history: Path, chosen: str, value: str | int) -> list[Commit]:
    with _opened(history) as db:
        rows = db.execute(f"{_COMMITS} WHERE {chosen}", [value]).fetchall()
    return [Commit(own, parent, files=Files(history, own), **json.loads(about)) for own, parent, about in rows]


# Write


def create_history(history: Path) -> None:
    """Make a history without commits."""
    with closing(sqlite3.connect(history)) as db:
        db.executescript(_TABLES)


def same(one: FileEntry | None, other: FileEntry | None) -> bool:
    """Whether two entries hold the same content, kept the same way."""
    if one is None or other is None:
        return one is other
    return (one.sha256, one.lfs) == (other.sha256, other.lfs)


@contextmanager
def new_commit(history: Path, commit: Commit) -> Iterator["Draft"]:
    """A commit that the block fills. It is on the disk when the block ends, and nothing of it after an error."""
    with _opened(history) as db:
        db.execute("PRAGMA synchronous = EXTRA")  # what a state names must not be lost with the power
        db.execute("BEGIN IMMEDIATE")
        (seq,) = db.execute("SELECT coalesce(max(seq), 0) + 1 FROM commits").fetchone()
        parent = db.execute(_PARENT, [commit.parent]).fetchone()
        before, line = (None, seq) if parent is None else (parent[0], seq if parent[2] else parent[1])
        about = json.dumps({name: getattr(commit, name) for name in ("title", "message", "author", "date")})
        db.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?)", [seq, commit.id, before, line, about])
        yield Draft(db, replace(commit.files, db=db), line, seq)
        db.execute("COMMIT")


@dataclass(frozen=True)
class Draft:
    """A commit in the making; `files` are those after the operations so far."""

    db: sqlite3.Connection
    files: Files
    line: int
    seq: int

    def put(self, path: str, entry: FileEntry) -> None:
        """Add or replace a file."""
        if not same(self.files.get(path), entry):
            self._change(path, entry.sha256, entry.size, entry.oid, entry.lfs)

    def remove(self, path: str, *, is_folder: bool) -> None:
        """Remove a file, or all below a folder, which clients may call a file. Raises `RefusedError` (404) for none."""
        inside = (not is_folder and self.files.find([path])) or self.files.below(path)
        if not inside:
            raise entry_not_found(f"A {'folder' if is_folder else 'file'} with this name doesn't exist: {path}")
        for each in inside:
            self._change(each, None, None, None, None)

    def check(self) -> None:
        """Raise `RefusedError` (400) where a new path is both a file and a folder."""
        own = "SELECT path FROM changes WHERE line = ? AND seq = ? AND sha256 IS NOT NULL"
        paths = [path for (path,) in self.db.execute(own, [self.line, self.seq])]
        above = self.files.find({folder for path in paths for folder in parent_folders(path)})
        clash = next(iter(above), None) or next((path for path in paths if self.files.below(path)), None)
        if clash is not None:
            raise malformed(f"{clash!r} cannot be a file and a folder")

    def _change(self, path: str, *entry: str | int | None) -> None:
        row = [path, self.line, self.seq, *entry]
        self.db.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", row)


@contextmanager
def _opened(history: Path) -> Iterator[sqlite3.Connection]:
    """A connection outside of any transaction.

    Raises `RefusedError`: 404 when the repository is gone, 500 when its file is damaged.
    """
    address = f"{history.absolute().as_uri()}?mode=rw"  # not as a new file; writable, to undo what a kill left half
    try:
        db = sqlite3.connect(address, uri=True, timeout=_SECONDS, isolation_level=None)
    except sqlite3.OperationalError:
        if history.exists():
            raise
        raise repo_not_found() from None
    with closing(db):
        try:
            yield db
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its details
            if code == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, str(error)) from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                where = "/".join(history.parts[-4:])
                raise RefusedError(500, f"{where} is damaged ({error}): put a copy back, or delete it all") from error
            raise
