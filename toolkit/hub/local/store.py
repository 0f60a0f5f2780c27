"""Repositories in a folder; nothing is remembered that is not on the disk.

    ROOT/{models,datasets,spaces}/NAMESPACE/NAME/
        repository.json     visibility, gate, branches, tags, pull requests: a commit exists once this file names it
        commits/ID.json     title, author, parent, and every file of that commit
        blobs/SHA256        contents
    ROOT/moved.json         where a repository went that had a name once
    ROOT/incoming/          what is being received or deleted; it moves into its place when it is complete
    ROOT/lock               held while something changes, also against other processes

A process killed at any instant leaves unreferenced files at worst, never half a commit.
"""

import hashlib
import json
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.core.folder import unwritable, write_bytes
from toolkit.hub.local.objects import (
    MAIN,
    SHA,
    SHORT_SHA,
    AddFile,
    AddLfsFile,
    Change,
    Commit,
    FileEntry,
    Files,
    Operation,
    PullRequest,
    RefKind,
    RefusedError,
    Remove,
    RepoId,
    Repository,
    check_ref,
    check_sha256,
    entry_not_found,
    git_blob_id,
    lfs_pointer,
    malformed,
    parent_folders,
    repo_not_found,
    revision_not_found,
)

if sys.platform != "win32":
    import fcntl

_MOVED = "moved.json"


class Store:
    """The repositories under one root. Safe to use from many threads, and from several processes at once."""

    def __init__(self, root: Path) -> None:
        """Make the root if it is not there. Raises `ToolkitError` when it cannot be made or written to."""
        self.root = root
        self._incoming = root / "incoming"
        self._lock = threading.Lock()
        try:
            if not root.exists():
                root.mkdir(parents=True)
                root.chmod(0o700)  # it holds private repositories
            self._incoming.mkdir(exist_ok=True)
            probe = self.fresh()
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise unwritable(root, error) from error

    def fresh(self) -> Path:
        """An unused path on the file system of the repositories, to be renamed into its place."""
        return self._incoming / secrets.token_hex(16)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing anything. A killed process lets go of the lock."""
        with self._lock, (self.root / "lock").open("ab") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    # Repositories

    def canonical(self, repo: RepoId) -> RepoId:
        """The name of the repository that has it in any case, else under the namespace as that is spelt."""
        namespace = _spelt(self.root / repo.kind, repo.namespace)
        return RepoId(repo.kind, namespace, _spelt(self.root / repo.kind / namespace, repo.name))

    def repository(self, repo: RepoId) -> Repository:
        """A repository as it stands now, by its name in any case. Raises `RefusedError` (404)."""
        repo = self.canonical(repo)
        try:
            state = json.loads((self._folder(repo) / "repository.json").read_bytes())
        except FileNotFoundError:
            raise repo_not_found() from None
        # Version 0.1.0 also wrote access requests, and discussions and events beside the pull requests.
        state.pop("requests", None)
        pulls = [_read_pull(each) for each in state.pop("discussions", []) if each["head"]]
        return Repository(repo, **state, pulls=tuple(pulls))

    def repositories(self, kind: str) -> list[Repository]:
        """All repositories of one kind, by name."""
        found = []
        for state in sorted((self.root / kind).glob("*/*/repository.json")):
            try:
                found.append(self.repository(RepoId(kind, *state.parts[-3:-1])))
            except RefusedError:  # deleted or moved since it was listed
                continue
        return found

    def create(self, repo: RepoId, *, private: bool, author: str, files: dict[str, bytes]) -> None:
        """Make a repository whose first commit holds `files`. Raises `RefusedError` (409) when it exists."""
        operations = tuple(AddFile(path, content) for path, content in files.items())
        with self.locked():
            target = self._folder(self.canonical(repo))
            if target.exists():
                raise RefusedError(409, f"You already created this repo: {repo}")
            draft = self.fresh()
            for name in ("commits", "blobs"):
                (draft / name).mkdir(parents=True)
            first = _write_commit(draft, None, Change(operations, "initial commit", "", author))
            _write_state(draft, Repository(repo, private, first.date, {MAIN: first.id}, {}))
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)
            self._write_moves({old: new for old, new in self._moves().items() if old != _address(repo).lower()})

    def delete(self, repo: RepoId) -> None:
        with self.locked():
            self.repository(repo)
            doomed = self.fresh()
            self._folder(repo).rename(doomed)
            self._write_moves({old: new for old, new in self._moves().items() if new != _address(repo)})
        shutil.rmtree(doomed)

    def move(self, repo: RepoId, target: RepoId) -> None:
        """Rename a repository; its old names lead to the new one. Raises `RefusedError` (409) when that is taken."""
        with self.locked():
            self.repository(repo)
            taken = self.canonical(target)
            if self._folder(taken).exists() and (taken != repo or target == repo):
                raise RefusedError(409, f"A {repo.kind[:-1]} repository called {taken} already exists")
            target = replace(target, namespace=taken.namespace)
            folder, goal = self._folder(target), _address(target)
            moves = {old: goal if new == _address(repo) else new for old, new in self._moves().items()}
            moves[_address(repo).lower()] = goal
            self._write_moves({old: new for old, new in moves.items() if old != goal.lower()})
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder(repo).rename(folder)

    def moved(self, repo: RepoId) -> RepoId | None:
        """Where a repository went that had this name."""
        target = self._moves().get(_address(repo).lower())
        return RepoId(*target.split("/")) if target else None

    def _moves(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads((self.root / _MOVED).read_bytes())
        except FileNotFoundError:
            found = {}
        return found

    def _write_moves(self, moves: dict[str, str]) -> None:
        if moves != self._moves():
            _write_json(self.root / _MOVED, moves)

    def update(self, repo: RepoId, change: Callable[[Repository], Repository]) -> None:
        """Replace a repository's state by what `change` makes of it, in one instant."""
        with self.locked():
            _write_state(self._folder(repo), change(self.repository(repo)))

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
        """Delete a branch or a tag. Raises `RefusedError`: 404 for an unknown name, 403 for main."""
        if (kind, name) == ("branches", MAIN):
            raise RefusedError(403, "The branch main cannot be deleted")

        def change(repository: Repository) -> Repository:
            refs = dict(repository.refs(kind))
            if refs.pop(name, None) is None:
                raise revision_not_found(name)
            return repository.with_refs(kind, refs)

        self.update(repo, change)

    # Commits

    def commit_at(self, repository: Repository, revision: str) -> Commit:
        """The commit that a branch, a tag, a pull request or an id names, whole or not. Raises `RefusedError` (404)."""
        pull = repository.pull(revision)
        named = repository.branches.get(revision) or repository.tags.get(revision) or (pull and pull.head)
        commit_id = named or self._whole_id(repository, revision)
        try:
            state = json.loads((self._folder(repository.repo) / "commits" / f"{commit_id}.json").read_bytes())
        except FileNotFoundError:
            raise revision_not_found(revision) from None
        return Commit(**state | {"files": {name: FileEntry(**entry) for name, entry in state["files"].items()}})

    def _whole_id(self, repository: Repository, revision: str) -> str:
        """The commit id that begins so. Raises `RefusedError` (404) where none does, or several do."""
        if SHA.fullmatch(revision):
            return revision
        commits = self._folder(repository.repo) / "commits"
        found = [each.stem for each in commits.glob(f"{revision}*.json")] if SHORT_SHA.fullmatch(revision) else []
        if len(found) != 1:
            raise revision_not_found(revision)
        return found[0]

    def history(self, repository: Repository, revision: str) -> Iterator[Commit]:
        """From `revision` back to the first commit."""
        commit = self.commit_at(repository, revision)
        yield commit
        while commit.parent is not None:
            commit = self.commit_at(repository, commit.parent)
            yield commit

    def commit(self, repo: RepoId, ref: str, change: Change) -> Commit:
        """Make a commit on a branch or on `refs/pr/NUMBER`, whole or not at all.

        Raises `RefusedError`: 404 for an unknown branch or a file to remove that is not there, 412 when the branch
        is no longer at the change's parent, 400 for an LFS file that was never uploaded, 403 for a closed pull request.
        """
        with self.locked():
            repository = self.repository(repo)
            pull = repository.pull(ref)
            if pull is None and ref not in repository.branches:
                raise revision_not_found(ref)
            if pull is not None and not pull.is_open:
                raise RefusedError(403, f"The pull request {pull.number} is {pull.status}")
            head = self.commit_at(repository, ref)
            if not head.id.startswith(change.parent or ""):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            commit = _write_commit(self._folder(repo), head, change)
            if pull is not None:
                changed = repository.with_pull(replace(pull, head=commit.id))
            else:
                changed = repository.with_refs("branches", {**repository.branches, ref: commit.id})
            _write_state(self._folder(repo), changed)
        return commit

    # Pull requests

    def propose(self, repo: RepoId, change: Change) -> tuple[Commit, PullRequest]:
        """Make a commit as a new pull request, from main or from the change's parent in main's history.

        Raises `RefusedError`: 412 for a parent that main never was at, otherwise as `commit`.
        """
        with self.locked():
            repository = self.repository(repo)
            history = self.history(repository, MAIN)
            base = next((each for each in history if each.id.startswith(change.parent or "")), None)
            if base is None:
                raise RefusedError(412, f"main was never at {change.parent}")
            commit = _write_commit(self._folder(repo), base, change)
            number = max((each.number for each in repository.pulls), default=0) + 1
            pull = PullRequest(number, change.title, change.author, _now(), "open", base.id, commit.id)
            _write_state(self._folder(repo), repository.with_pull(pull))
        return commit, pull

    def set_status(self, repo: RepoId, number: int, status: str) -> None:
        """Close a pull request or open it again. Raises `RefusedError` (403) for a merged one, 404 for none."""

        def change(repository: Repository) -> Repository:
            pull = find_pull(repository, number)
            if pull.status == "merged":
                raise RefusedError(403, f"The pull request {number} is merged")
            return repository.with_pull(replace(pull, status=status))

        self.update(repo, change)

    def merge(self, repo: RepoId, number: int, author: str) -> Commit:
        """Take a pull request into main, by one commit.

        Raises `RefusedError`: 409 when main changed the same files in another way, 403 for a closed pull request.
        """
        with self.locked():
            repository = self.repository(repo)
            pull = find_pull(repository, number)
            if not pull.is_open:
                raise RefusedError(403, f"The pull request {number} is {pull.status}")
            main = self.commit_at(repository, MAIN)
            base, head = (self.commit_at(repository, each).files for each in (pull.base, pull.head))
            files = _merged(base, head, main.files, number)
            title = Change((), f"{pull.title} (#{number})", "", author)
            commit = _write_commit(self._folder(repo), replace(main, files=files), title)
            changed = repository.with_refs("branches", {**repository.branches, MAIN: commit.id})
            _write_state(self._folder(repo), changed.with_pull(replace(pull, status="merged", merged=commit.id)))
        return commit

    # Contents

    def blob(self, repo: RepoId, sha256: str) -> Path:
        """Where a content lies, or would lie. Raises `RefusedError` (400) for what is no sha256."""
        return _blob(self._folder(repo), sha256)

    def adopt(self, repo: RepoId, received: Path, sha256: str) -> None:
        """Take over a received file whose hash was checked. Raises `RefusedError` when the repository is gone."""
        with self.locked():
            self.repository(repo)
            received.replace(self.blob(repo, sha256))

    def _folder(self, repo: RepoId) -> Path:
        return self.root / repo.kind / repo.namespace / repo.name


def find_pull(repository: Repository, number: int) -> PullRequest:
    """The pull request of this number. Raises `RefusedError` (404)."""
    pull = repository.pull(f"refs/pr/{number}")
    if pull is None:
        raise RefusedError(404, f"{repository.repo} has no pull request {number}")
    return pull


def _now() -> str:
    """This moment, as the clients read it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _spelt(folder: Path, name: str) -> str:
    """The entry of a folder that has this name in any case; the name itself when there is none."""
    if (folder / name).exists() or not folder.exists():
        return name
    return next((each.name for each in folder.iterdir() if each.name.lower() == name.lower()), name)


def _address(repo: RepoId) -> str:
    return f"{repo.kind}/{repo}"


def _read_pull(state: Mapping[str, Any]) -> PullRequest:
    return PullRequest(**{field.name: state[field.name] for field in fields(PullRequest)})


def _write_state(folder: Path, repository: Repository) -> None:
    state = asdict(repository)
    del state["repo"]  # the folder's own path, which a move changes
    state["discussions"] = state.pop("pulls")
    _write_json(folder / "repository.json", state)


def _write_json(target: Path, value: object) -> None:
    write_bytes(target, json.dumps(value).encode())


def _write_commit(folder: Path, head: Commit | None, change: Change) -> Commit:
    """The commit after `head`, which no reference names yet. Raises `RefusedError` as `Store.commit`."""
    # Random, not a hash: clients cache by commit id, so a repository made anew must not repeat one.
    commit_id, files = secrets.token_hex(20), dict(head.files if head else {})
    for operation in change.operations:
        _apply(folder, files, operation, commit_id)
    for path in files:
        if clash := next((each for each in parent_folders(path) if each in files), None):
            raise malformed(f"{clash!r} cannot be a file and the folder of {path!r}")
    parent = head.id if head else None
    commit = Commit(commit_id, parent, change.title, change.message, change.author, _now(), files)
    _write_json(folder / "commits" / f"{commit_id}.json", asdict(commit))
    return commit


def _apply(folder: Path, files: dict[str, FileEntry], operation: Operation, commit_id: str) -> None:
    if isinstance(operation, Remove):
        _remove(files, operation)
        return
    if isinstance(operation, AddFile):
        entry = _keep(folder, operation.content, commit_id)
    else:
        entry = _find_uploaded(folder, operation, commit_id)
    if not _same(files.get(operation.path), entry):
        files[operation.path] = entry


def _remove(files: dict[str, FileEntry], operation: Remove) -> None:
    path = operation.path
    inside = [each for each in files if each.startswith(f"{path}/")] if operation.is_folder else [path]
    if not inside or inside[0] not in files:
        what = "folder" if operation.is_folder else "file"
        raise entry_not_found(f"A {what} with this name doesn't exist: {path}")
    for each in inside:
        del files[each]


def _keep(folder: Path, content: bytes, commit_id: str) -> FileEntry:
    """Store the content of a regular file."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = _blob(folder, sha256)
    if not target.exists():
        write_bytes(target, content)
    return FileEntry(sha256, len(content), git_blob_id(content), False, commit_id)


def _find_uploaded(folder: Path, wanted: AddLfsFile, commit_id: str) -> FileEntry:
    """The entry of an LFS file. Raises `RefusedError` (400) unless its content is there."""
    blob = _blob(folder, wanted.sha256)
    if not blob.exists():
        raise malformed(f"{wanted.path!r} points to an LFS object that was not uploaded: {wanted.sha256}")
    size = blob.stat().st_size
    if wanted.size not in (None, size):
        raise malformed(f"{wanted.path!r} has {size} bytes, not {wanted.size}")
    return FileEntry(wanted.sha256, size, git_blob_id(lfs_pointer(wanted.sha256, size)), True, commit_id)


def _blob(folder: Path, sha256: str) -> Path:
    return folder / "blobs" / check_sha256(sha256)


def _same(one: FileEntry | None, other: FileEntry | None) -> bool:
    """Whether two entries hold the same content, kept the same way."""
    if one is None or other is None:
        return one is other
    return (one.sha256, one.lfs) == (other.sha256, other.lfs)


def _merged(base: Files, head: Files, main: Files, number: int) -> Mapping[str, FileEntry]:
    """The files of main with what changed from base to head. Raises `RefusedError` (409) where main changed it too."""
    changed = sorted(path for path in {*base, *head} if not _same(base.get(path), head.get(path)))
    clashing = [
        path
        for path in changed
        if not _same(main.get(path), base.get(path)) and not _same(main.get(path), head.get(path))
    ]
    if clashing:
        raise RefusedError(409, f"The pull request {number} conflicts with main in {', '.join(clashing)}")
    kept = {path: entry for path, entry in main.items() if path not in changed}
    return kept | {path: head[path] for path in changed if path in head}
