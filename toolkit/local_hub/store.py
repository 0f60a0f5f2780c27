"""Repositories in a folder. Knows nothing of HTTP, and remembers nothing that is not on the disk.

    ROOT/{models,datasets,spaces}/NAMESPACE/NAME/
        repository.json     visibility, branches, tags: a commit exists once this file names it
        commits/ID.json     title, author, parent, and every file of that commit
        blobs/SHA256        contents
    ROOT/incoming/          files being written; each is renamed into its place once it is complete

A process killed at any instant leaves unreferenced files at worst, never half a commit.
"""

import json
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from toolkit.local_hub.blobs import Incoming, blob_path, find_uploaded, keep
from toolkit.local_hub.names import SHA, RepoId, check_ref
from toolkit.local_hub.objects import (
    AddFile,
    AddLfsFile,
    Commit,
    FileEntry,
    Operation,
    RefKind,
    Repository,
    check_no_file_is_a_folder,
)
from toolkit.local_hub.refusal import RefusedError, entry_not_found, repo_not_found, revision_not_found

MAIN = "main"


class Store:
    """The repositories under one root. Safe to use from many threads, and meant for one process."""

    def __init__(self, root: Path) -> None:
        """Raises `OSError` when the root can not be made or written to."""
        self.root = root
        self.incoming = Incoming(root / "incoming")
        self._lock = threading.RLock()

    # Repositories

    def repository(self, repo: RepoId) -> Repository:
        """Raises `RefusedError` (404)."""
        try:
            state = json.loads((self._folder(repo) / "repository.json").read_bytes())
        except FileNotFoundError:
            raise repo_not_found() from None
        return Repository(repo, **state)

    def repositories(self, kind: str) -> list[Repository]:
        """In the order of their names."""
        with self._lock:
            states = sorted((self.root / kind).glob("*/*/repository.json"))
            return [self.repository(RepoId(kind, *state.parts[-3:-1])) for state in states]

    def create(self, repo: RepoId, *, private: bool, author: str, files: dict[str, bytes]) -> Repository:
        """Make a repository whose first commit holds `files`. Raises `RefusedError` (409) when it exists."""
        target = self._folder(repo)
        with self._lock:
            if target.exists():
                raise RefusedError(409, f"You already created this repo: {repo}")
            draft = self.incoming.fresh()
            (draft / "commits").mkdir(parents=True)
            (draft / "blobs").mkdir()
            first = _new_commit(None, "initial commit", "", author)
            entries = {path: keep(self.incoming, draft, content, first.id) for path, content in files.items()}
            self._write_commit(draft, replace(first, files=entries))
            self._write_state(draft, Repository(repo, private, first.date, {MAIN: first.id}, {}))
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)
        return self.repository(repo)

    def delete(self, repo: RepoId) -> None:
        with self._lock:
            self.repository(repo)
            grave = self.incoming.fresh()
            self._folder(repo).rename(grave)
        shutil.rmtree(grave)

    def move(self, repo: RepoId, target: RepoId) -> None:
        """Raises `RefusedError` (409) when the new name is taken."""
        with self._lock:
            self.repository(repo)
            folder = self._folder(target)
            if folder.exists():
                raise RefusedError(409, f"{target} exists already")
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder(repo).rename(folder)

    def set_private(self, repo: RepoId, private: bool) -> None:
        with self._lock:
            self._write_state(self._folder(repo), replace(self.repository(repo), private=private))

    # References

    def create_ref(self, repo: RepoId, kind: RefKind, name: str, revision: str) -> None:
        """Name a commit. Raises `RefusedError`: 404 for an unknown revision, 409 when the name is taken."""
        check_ref(name)
        with self._lock:
            repository = self.repository(repo)
            target = self.commit_at(repository, revision)
            refs = repository.refs(kind)
            if name in refs:
                raise RefusedError(409, f"{name!r} exists already")
            self._write_state(self._folder(repo), repository.with_refs(kind, {**refs, name: target.id}))

    def delete_ref(self, repo: RepoId, kind: RefKind, name: str) -> None:
        if (kind, name) == ("branches", MAIN):
            raise RefusedError(403, "The branch main can not be deleted")
        with self._lock:
            repository = self.repository(repo)
            refs = dict(repository.refs(kind))
            if refs.pop(name, None) is None:
                raise revision_not_found(name)
            self._write_state(self._folder(repo), repository.with_refs(kind, refs))

    # Commits

    def commit_at(self, repository: Repository, revision: str) -> Commit:
        """The commit that a branch, a tag or a full commit id names. Raises `RefusedError` (404)."""
        commit_id = repository.branches.get(revision) or repository.tags.get(revision) or revision
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
        branch: str,
        operations: Sequence[Operation],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None,
    ) -> Commit:
        """Apply `operations` in their order, all or none.

        Raises `RefusedError`: 404 for an unknown branch or a file to remove that is not there, 412 when the branch
        is no longer at `parent`, 400 for an LFS file that was never uploaded.
        """
        folder = self._folder(repo)
        with self._lock:
            repository = self.repository(repo)
            if branch not in repository.branches:
                raise revision_not_found(branch)
            head = self.commit_at(repository, branch)
            if parent is not None and not head.id.startswith(parent.lower()):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            commit = _new_commit(head.id, title, message, author)
            files = dict(head.files)
            for operation in operations:
                self._apply(folder, files, operation, commit.id)
            check_no_file_is_a_folder(files)
            commit = replace(commit, files=files)
            self._write_commit(folder, commit)
            self._write_state(folder, replace(repository, branches={**repository.branches, branch: commit.id}))
        return commit

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

    # Contents

    def blob(self, repo: RepoId, sha256: str) -> Path:
        """Where a content lies, or would lie."""
        return blob_path(self._folder(repo), sha256)

    def adopt(self, repo: RepoId, received: Path, sha256: str) -> None:
        """Take over a received file whose hash was checked. Raises `RefusedError` when the repository is gone."""
        with self._lock:
            self.repository(repo)
            received.replace(self.blob(repo, sha256))

    def _folder(self, repo: RepoId) -> Path:
        return self.root / repo.kind / repo.namespace / repo.name

    def _write_commit(self, folder: Path, commit: Commit) -> None:
        self._write_json(folder / "commits" / f"{commit.id}.json", asdict(commit))

    def _write_state(self, folder: Path, repository: Repository) -> None:
        state = asdict(repository)
        del state["repo"]  # the folder's own path, which a move changes
        self._write_json(folder / "repository.json", state)

    def _write_json(self, target: Path, value: object) -> None:
        self.incoming.write(target, json.dumps(value).encode())


def _new_commit(parent: str | None, title: str, message: str, author: str) -> Commit:
    # Random, not a hash: clients cache by commit id, so a repository made anew must not repeat one.
    date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Commit(secrets.token_hex(20), parent, title, message, author, date, {})


@lru_cache(maxsize=256)
def _read_commit(path: Path) -> Commit:
    fields = json.loads(path.read_bytes())
    files = {name: FileEntry(**entry) for name, entry in fields.pop("files").items()}
    return Commit(**fields, files=files)
