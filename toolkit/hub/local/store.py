"""Repositories in a folder. Knows nothing of HTTP, and remembers nothing that is not on the disk.

    ROOT/{models,datasets,spaces}/NAMESPACE/NAME/
        repository.json     visibility, gate, branches, tags, discussions: a commit exists once this file names it
        commits/ID.json     title, author, parent, and every file of that commit
        blobs/SHA256        contents
    ROOT/incoming/          files being written; each is renamed into its place once it is complete
    ROOT/lock               held while something changes, also against other processes

A process killed at any instant leaves unreferenced files at worst, never half a commit.
"""

import json
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.hub.local.blobs import Incoming, blob_path, find_uploaded, keep
from toolkit.hub.local.names import SHA, RepoId, check_ref
from toolkit.hub.local.objects import (
    AddFile,
    AddLfsFile,
    Commit,
    Discussion,
    FileEntry,
    Operation,
    RefKind,
    Repository,
    check_no_file_is_a_folder,
)
from toolkit.hub.local.refusal import RefusedError, entry_not_found, repo_not_found, revision_not_found

if sys.platform != "win32":
    import fcntl

MAIN = "main"


class Store:
    """The repositories under one root. Safe to use from many threads, and from several processes at once."""

    def __init__(self, root: Path) -> None:
        """Raises `OSError` when the root can not be made or written to."""
        self.root = root
        if not root.exists():
            root.mkdir(parents=True)
            root.chmod(0o700)  # private repositories are in it, for whoever can read files here
        self.incoming = Incoming(root / "incoming")
        self._lock = threading.Lock()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes anything meanwhile. A killed process lets go of it."""
        with self._lock, (self.root / "lock").open("ab") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Repositories

    def repository(self, repo: RepoId) -> Repository:
        """Raises `RefusedError` (404)."""
        try:
            state = json.loads((self._folder(repo) / "repository.json").read_bytes())
        except FileNotFoundError:
            raise repo_not_found() from None
        discussions = state.pop("discussions", [])
        return Repository(repo, **state, discussions=tuple(_read_discussion(each) for each in discussions))

    def repositories(self, kind: str) -> list[Repository]:
        """In the order of their names."""
        found = []
        for state in sorted((self.root / kind).glob("*/*/repository.json")):
            try:
                found.append(self.repository(RepoId(kind, *state.parts[-3:-1])))
            except RefusedError:  # deleted or moved since it was listed
                continue
        return found

    def create(self, repo: RepoId, *, private: bool, author: str, files: dict[str, bytes]) -> Repository:
        """Make a repository whose first commit holds `files`. Raises `RefusedError` (409) when it exists."""
        target = self._folder(repo)
        with self.locked():
            if target.exists():
                raise RefusedError(409, f"You already created this repo: {repo}")
            draft = self.incoming.fresh()
            (draft / "commits").mkdir(parents=True)
            (draft / "blobs").mkdir()
            first = _new_commit(None, "initial commit", "", author)
            entries = {path: keep(self.incoming, draft, content, first.id) for path, content in files.items()}
            self._write_json(draft / "commits" / f"{first.id}.json", asdict(replace(first, files=entries)))
            self._write_state(draft, Repository(repo, private, first.date, {MAIN: first.id}, {}))
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)
        return self.repository(repo)

    def delete(self, repo: RepoId) -> None:
        with self.locked():
            self.repository(repo)
            grave = self.incoming.fresh()
            self._folder(repo).rename(grave)
        shutil.rmtree(grave)

    def move(self, repo: RepoId, target: RepoId) -> None:
        """Raises `RefusedError` (409) when the new name is taken."""
        with self.locked():
            self.repository(repo)
            folder = self._folder(target)
            if folder.exists():
                raise RefusedError(409, f"{target} exists already")
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder(repo).rename(folder)

    def update(self, repo: RepoId, change: Callable[[Repository], Repository]) -> Repository:
        """Replace a repository's state by what `change` makes of it, in one instant."""
        with self.locked():
            changed = change(self.repository(repo))
            self.write_state(changed)
        return changed

    # References

    def create_ref(self, repo: RepoId, kind: RefKind, name: str, revision: str) -> None:
        """Name a commit. Raises `RefusedError`: 404 for an unknown revision, 409 when the name is taken."""
        check_ref(name)

        def change(repository: Repository) -> Repository:
            target = self.commit_at(repository, revision)
            refs = repository.refs(kind)
            if name in refs:
                raise RefusedError(409, f"{name!r} exists already")
            return repository.with_refs(kind, {**refs, name: target.id})

        self.update(repo, change)

    def delete_ref(self, repo: RepoId, kind: RefKind, name: str) -> None:
        if (kind, name) == ("branches", MAIN):
            raise RefusedError(403, "The branch main can not be deleted")

        def change(repository: Repository) -> Repository:
            refs = dict(repository.refs(kind))
            if refs.pop(name, None) is None:
                raise revision_not_found(name)
            return repository.with_refs(kind, refs)

        self.update(repo, change)

    # Commits

    def commit_at(self, repository: Repository, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or a full commit id names. Raises `RefusedError` (404)."""
        pull = repository.pull(revision)
        named = repository.branches.get(revision) or repository.tags.get(revision) or (pull and pull.head)
        commit_id = named or revision
        if not SHA.fullmatch(commit_id):
            raise revision_not_found(revision)
        try:
            return _read_commit(self._folder(repository.repo) / "commits" / f"{commit_id}.json")
        except FileNotFoundError:
            raise revision_not_found(revision) from None

    def history(self, repository: Repository, revision: str) -> Iterator[Commit]:
        """From `revision` back to the first commit."""
        commit = self.commit_at(repository, revision)
        yield commit
        while commit.parent is not None:
            commit = self.commit_at(repository, commit.parent)
            yield commit

    def commit(
        self,
        repo: RepoId,
        ref: str,
        operations: Sequence[Operation],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None,
    ) -> Commit:
        """Apply `operations` in their order to a branch or to `refs/pr/NUMBER`, all or none.

        Raises `RefusedError`: 404 for an unknown branch or a file to remove that is not there, 412 when the branch
        is no longer at `parent`, 400 for an LFS file that was never uploaded, 403 for a closed pull request.
        """
        with self.locked():
            repository = self.repository(repo)
            pull = repository.pull(ref)
            if pull is None and ref not in repository.branches:
                raise revision_not_found(ref)
            if pull is not None and not pull.is_open:
                raise RefusedError(403, f"The pull request {pull.number} is {pull.status}")
            head = self.commit_at(repository, ref)
            if parent is not None and not head.id.startswith(parent):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            commit = self.write_commit(repository, head, operations, title=title, message=message, author=author)
            if pull is not None:
                self.write_state(repository.with_discussion(replace(pull, head=commit.id)))
            else:
                self.write_state(replace(repository, branches={**repository.branches, ref: commit.id}))
        return commit

    def write_commit(
        self,
        repository: Repository,
        head: Commit | None,
        operations: Sequence[Operation],
        *,
        title: str,
        message: str,
        author: str,
        files: Mapping[str, FileEntry] | None = None,
    ) -> Commit:
        """A commit after `head` that no reference names yet: `operations` applied to `files`, by default the head's.

        Without a head it begins a history, in which it is what last changed every file. Only while `locked`. Raises
        `RefusedError` as `commit`.
        """
        folder = self._folder(repository.repo)
        commit = _new_commit(head.id if head else None, title, message, author)
        after = dict(files if files is not None else head.files if head else {})
        if head is None:
            after = {path: replace(entry, commit=commit.id) for path, entry in after.items()}
        for operation in operations:
            self._apply(folder, after, operation, commit.id)
        check_no_file_is_a_folder(after)
        commit = replace(commit, files=after)
        self._write_json(folder / "commits" / f"{commit.id}.json", asdict(commit))
        return commit

    def write_state(self, repository: Repository) -> None:
        """Make this the repository's state. Only while `locked`."""
        self._write_state(self._folder(repository.repo), repository)

    def _apply(self, folder: Path, files: dict[str, FileEntry], operation: Operation, commit_id: str) -> None:
        path = operation.path
        if isinstance(operation, AddFile):
            entry = keep(self.incoming, folder, operation.content, commit_id)
        elif isinstance(operation, AddLfsFile):
            entry = find_uploaded(folder, operation, commit_id)
        else:
            inside = [each for each in files if each.startswith(path + "/")] if operation.is_folder else [path]
            if not inside or inside[0] not in files:
                what = "folder" if operation.is_folder else "file"
                raise entry_not_found(f"A {what} with this name doesn't exist: {path}")
            for each in inside:
                del files[each]
            return
        known = files.get(path)
        if known is None or (known.sha256, known.lfs) != (entry.sha256, entry.lfs):
            files[path] = entry

    def forget_commits(self, repo: RepoId, *, keep: Collection[str]) -> None:
        """Delete all other commits. Only while `locked`, and once nothing names them."""
        for file in (self._folder(repo) / "commits").glob("*.json"):
            if file.stem not in keep:
                file.unlink()
        _read_commit.cache_clear()

    # Contents

    def size(self, repo: RepoId) -> int:
        """How many bytes the contents of all its commits take."""
        return sum(each.stat().st_size for each in (self._folder(repo) / "blobs").glob("*"))

    def blob(self, repo: RepoId, sha256: str) -> Path:
        """Where a content lies, or would lie."""
        return blob_path(self._folder(repo), sha256)

    def adopt(self, repo: RepoId, received: Path, sha256: str) -> None:
        """Take over a received file whose hash was checked. Raises `RefusedError` when the repository is gone."""
        with self.locked():
            self.repository(repo)
            received.replace(self.blob(repo, sha256))

    def _folder(self, repo: RepoId) -> Path:
        return self.root / repo.kind / repo.namespace / repo.name

    def _write_state(self, folder: Path, repository: Repository) -> None:
        state = asdict(repository)
        del state["repo"]  # the folder's own path, which a move changes
        self._write_json(folder / "repository.json", state)

    def _write_json(self, target: Path, value: object) -> None:
        self.incoming.write(target, json.dumps(value).encode())


def now() -> str:
    """This moment, as the clients read it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _new_commit(parent: str | None, title: str, message: str, author: str) -> Commit:
    # Random, not a hash: clients cache by commit id, so a repository made anew must not repeat one.
    return Commit(secrets.token_hex(20), parent, title, message, author, now(), {})


def _read_discussion(fields: dict[str, Any]) -> Discussion:
    return Discussion(**{**fields, "events": tuple(fields["events"])})


@lru_cache(maxsize=256)
def _read_commit(path: Path) -> Commit:
    fields = json.loads(path.read_bytes())
    files = {name: FileEntry(**entry) for name, entry in fields.pop("files").items()}
    return Commit(**fields, files=files)
