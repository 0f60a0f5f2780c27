"""Repositories in a folder, as `docs/local_hub.md` lays it out; nothing is remembered that is not on the disk.

A commit exists once `repository.json` names it. A process killed at any instant leaves what nothing names at worst,
never half a commit.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from toolkit.core.folder import lock, read_json, sync, unwritable, write_bytes
from toolkit.hub.local.history import (
    HISTORY,
    Commit,
    Draft,
    Files,
    ancestry,
    create_history,
    find_commit,
    new_commit,
    same,
)
from toolkit.hub.local.objects import (
    MAIN,
    AddFile,
    Change,
    FileEntry,
    Operation,
    PullRequest,
    RefKind,
    RefusedError,
    Remove,
    RepoId,
    Repository,
    Tree,
    check_ref,
    check_sha256,
    git_blob_id,
    lfs_pointer,
    malformed,
    repo_not_found,
    revision_not_found,
)

log = logging.getLogger("toolkit")
_SHA_BEGUN = re.compile("[0-9a-f]{7,40}")  # git shows 7 digits at least


class Store:
    """The repositories under one root. Safe to use from many threads, and from several processes at once."""

    def __init__(self, root: Path) -> None:
        """Make the root if it is not there. Raises `ToolkitError` when it cannot be made or written to."""
        self.root = root
        self.incoming = root / "incoming"
        try:
            root.mkdir(0o700, parents=True, exist_ok=True)  # it holds private repositories
            self.incoming.mkdir(exist_ok=True)
            self._tidy()
        except OSError as error:
            raise unwritable(root, error) from error
        # Signs the addresses of uploads, which shall outlive a restart.
        self.key = self.kept("key", secrets.token_bytes(32)).read_bytes()

    def _tidy(self) -> None:
        """Remove what killed processes left, unless another store uses this root, and read in what 0.2.0 wrote."""
        servers = os.open(self.root / "servers", os.O_RDWR | os.O_CREAT)
        weakref.finalize(self, os.close, servers)
        with suppress(BlockingIOError):
            lock(servers, wait=False)
            for left in self.incoming.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        lock(servers, shared=True)
        with self.locked():
            for commits in self.root.glob("*/*/*/commits"):
                self._upgrade(commits)

    def fresh(self) -> Path:
        """An unused path on the file system of the repositories, to be renamed into its place."""
        return self.incoming / secrets.token_hex(16)

    def kept(self, name: str, new: bytes) -> Path:
        """A file in the root that only its owner can read; it holds `new` if it is made. Raises `ToolkitError`."""
        file, draft = self.root / name, self.fresh()
        try:
            with self.locked():
                if not file.exists():
                    draft.touch(0o600)
                    draft.write_bytes(new)
                    draft.replace(file)
            file.chmod(0o600)
        except OSError as error:
            raise unwritable(file, error) from error
        return file

    @contextmanager
    def receiving(self) -> Iterator[Path]:
        """A folder for contents on their way. What did not move to its place is removed with it."""
        folder = self.fresh()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing anything. A killed process lets go of the lock."""
        with (self.root / "lock").open("ab") as file:
            lock(file.fileno())
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
        names = [field.name for field in fields(PullRequest)]
        kept = [each for each in state.pop("discussions", []) if each["head"]]
        return Repository(repo, **state, pulls=tuple(PullRequest(*map(each.get, names)) for each in kept))

    def repositories(self, kind: str) -> list[Repository]:
        """All repositories of one kind, by name."""
        found = []
        for state in sorted((self.root / kind).glob("*/*/repository.json")):
            with suppress(RefusedError):  # deleted or moved since it was listed
                found.append(self.repository(RepoId(kind, *state.parts[-3:-1])))
        return found

    def create(self, repo: RepoId, *, private: bool, author: str, files: dict[str, bytes]) -> None:
        """Make a repository whose first commit holds `files`. Raises `RefusedError` (409) when it exists."""
        with self.receiving() as contents, self.locked():
            target = self._folder(self.canonical(repo))
            if target.exists():
                raise RefusedError(409, f"You already created this repo: {repo}")
            draft = self.fresh()
            (draft / "blobs").mkdir(parents=True)
            create_history(draft / HISTORY)
            operations = tuple(receive(contents, path, content) for path, content in files.items())
            settle(contents)
            first = _write_commit(draft, None, Change(operations, "initial commit", "", author, None, contents))
            _write_state(draft, Repository(repo, private, first.date, {MAIN: first.id}, {}))
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)

    def delete(self, repo: RepoId) -> None:
        with self.locked():
            self.repository(repo)
            doomed = self.fresh()
            self._folder(repo).rename(doomed)
        shutil.rmtree(doomed)

    def move(self, repo: RepoId, target: RepoId) -> None:
        """Rename a repository; its old names lead to the new one. Raises `RefusedError` (409) when that is taken."""
        with self.locked():
            repository, taken = self.repository(repo), self.canonical(target)
            if self._folder(taken).exists() and (taken != repo or target == repo):
                raise RefusedError(409, f"A {repo.kind[:-1]} repository called {taken} already exists")
            folder = self._folder(replace(target, namespace=taken.namespace))
            former = {**repository.former, str(repo).lower(): _now()}
            _write_state(self._folder(repo), replace(repository, former=former))
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder(repo).rename(folder)

    def moved(self, repo: RepoId) -> RepoId | None:
        """Where the repository is that had this name last."""
        name = str(repo).lower()
        found = [each for each in self.repositories(repo.kind) if name in each.former]
        return max(found, key=lambda each: each.former[name]).repo if found else None

    def update(self, repo: RepoId, change: Callable[[Repository], Repository]) -> None:
        """Replace a repository's state by what `change` makes of it, in one instant."""
        with self.locked():
            _write_state(self._folder(repo), change(self.repository(repo)))

    # References

    def create_ref(self, repo: RepoId, kind: RefKind, name: str, revision: str) -> None:
        """Name a commit. Raises `RefusedError`: 404 for an unknown revision, 409 when the name is taken."""

        def change(repository: Repository) -> Repository:
            target, refs = self.commit_at(repository, revision), repository.refs(kind)
            if check_ref(name) in refs:
                raise RefusedError(409, f"Reference refs/{kind}/{name} already exists")
            return repository.with_refs(kind, {**refs, name: target.id})

        self.update(repo, change)

    def delete_ref(self, repo: RepoId, kind: RefKind, name: str) -> None:
        """Delete a branch or a tag. Raises `RefusedError`: 404 for an unknown name, 403 for main."""
        if (kind, name) == ("heads", MAIN):
            raise RefusedError(403, "Cannot delete refs/heads/main")

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
        commit_id = named or revision.lower()
        found = find_commit(self.history(repository), commit_id) if _SHA_BEGUN.fullmatch(commit_id) else None
        if found is None:
            raise revision_not_found(revision)
        return found

    def ancestry(self, repository: Repository, revision: str) -> list[Commit]:
        """The commits from `revision` back to the first."""
        return ancestry(self.history(repository), self.commit_at(repository, revision).id)

    def history(self, repository: Repository) -> Path:
        """Where the commits of a repository lie."""
        return self._folder(repository.repo) / HISTORY

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
                raise RefusedError(
                    412, "The branch was updated since you opened this page. Please refresh and try again."
                )
            commit = _write_commit(self._folder(repo), head, change)
            if pull is not None:
                changed = repository.with_pull(replace(pull, head=commit.id))
            else:
                changed = repository.with_refs("heads", {**repository.branches, ref: commit.id})
            _write_state(self._folder(repo), changed)
        return commit

    def squash(self, repo: RepoId, branch: str, message: str, author: str) -> None:
        """Let one commit with its files be the whole history of a branch; others keep theirs. 404 for no branch."""
        with self.locked():
            repository, folder = self.repository(repo), self._folder(repo)
            if branch not in repository.branches:
                raise revision_not_found(branch)
            files = self.commit_at(repository, branch).files.below()
            commit = _write_commit(folder, None, Change(tuple(_taken({}, files, {}, 0)), message, "", author))
            _write_state(folder, repository.with_refs("heads", {**repository.branches, branch: commit.id}))

    # Pull requests

    def propose(self, repo: RepoId, change: Change) -> tuple[Commit, PullRequest]:
        """Make a commit as a new pull request, from main or from the change's parent in main's history.

        Raises `RefusedError`: 412 for a parent that main never was at, otherwise as `commit`.
        """
        with self.locked():
            repository = self.repository(repo)
            history = self.ancestry(repository, MAIN)
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
            base, head = (self.commit_at(repository, each) for each in (pull.base, pull.head))
            operations = _taken(base.files.below(), head.files.below(), main.files.below(), number)
            title = Change(tuple(operations), f"{pull.title} (#{number})", "", author)
            commit = _write_commit(self._folder(repo), main, title)
            changed = repository.with_refs("heads", {**repository.branches, MAIN: commit.id})
            _write_state(self._folder(repo), changed.with_pull(replace(pull, status="merged")))
        return commit

    # Contents

    def blob(self, repo: RepoId, sha256: str) -> Path:
        """Where a content lies, or would lie. Raises `RefusedError` (400) for what is no sha256."""
        return _blob(self._folder(repo), sha256)

    def uploaded(self, repo: RepoId, path: str, sha256: str, size: int | None) -> FileEntry:
        """The entry of an LFS file, of which a copy does not tell the size. Raises `RefusedError` (400) without it."""
        blob = self.blob(repo, sha256)
        if not blob.exists():
            raise malformed(f"{path!r} points to an LFS object that was not uploaded: {sha256}")
        there = blob.stat().st_size
        if size not in (None, there):
            raise malformed(f"{path!r} has {there} bytes, not {size}")
        return FileEntry(sha256, there, git_blob_id(lfs_pointer(sha256, there)), lfs=True)

    def adopt(self, repo: RepoId, received: Path, sha256: str) -> None:
        """Take over a received file whose hash was checked. Raises `RefusedError` when the repository is gone."""
        with self.locked():
            self.repository(repo)
            received.replace(self.blob(repo, sha256))

    def _folder(self, repo: RepoId) -> Path:
        return self.root / repo.kind / repo.namespace / repo.name

    def _upgrade(self, commits: Path) -> None:
        """Read the commits of 0.1.0 and 0.2.0, each a file with all its tree, into a history that takes their place."""
        parents = {file.stem: read_json(file)["parent"] for file in commits.glob("*.json")}
        log.info("Reading in %s commits of an older version: %s.", len(parents), commits.parent.relative_to(self.root))
        draft = self.fresh()
        create_history(draft)
        while ready := [each for each, parent in parents.items() if parent not in parents]:
            for commit_id in ready:
                state, names = read_json(commits / f"{commit_id}.json"), ("sha256", "size", "oid", "lfs")
                files = {path: FileEntry(*(kept[name] for name in names)) for path, kept in state.pop("files").items()}
                before = Files(draft, str(parents.pop(commit_id))).below()
                with new_commit(draft, Commit(**state, files=Files(draft, commit_id))) as made:
                    _fill(made, _taken(before, files, before, 0))
        draft.replace(commits.parent / HISTORY)
        doomed = self.fresh()
        commits.rename(doomed)
        shutil.rmtree(doomed)


def receive(folder: Path, path: str, content: bytes) -> AddFile:
    """The operation that adds a file, whose content is put into a folder of `Store.receiving`."""
    kept = folder / hashlib.sha256(content).hexdigest()
    if not kept.exists():
        kept.write_bytes(content)
    return AddFile(path, FileEntry(kept.name, len(content), git_blob_id(content), lfs=False))


def settle(folder: Path) -> None:
    """Bring received contents to the disk, many at once, which takes little longer than one."""
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(sync, folder.iterdir()))


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


def _write_state(folder: Path, repository: Repository) -> None:
    state = asdict(repository)
    del state["repo"]  # the folder's own path, which a move changes
    state["discussions"] = state.pop("pulls")
    write_bytes(folder / "repository.json", json.dumps(state).encode())


def _write_commit(folder: Path, head: Commit | None, change: Change) -> Commit:
    """The commit after `head`, which no reference names yet. Raises `RefusedError` as `Store.commit`."""
    # Random, not a hash: clients cache by commit id, so a repository made anew must not repeat one.
    commit_id, history = secrets.token_hex(20), folder / HISTORY
    parent = head.id if head else None
    commit = Commit(commit_id, parent, change.title, change.message, change.author, _now(), Files(history, commit_id))
    with new_commit(history, commit) as made:
        _fill(made, change.operations)
        made.check()
        for received in change.contents.iterdir() if change.contents else ():
            received.replace(_blob(folder, received.name))
    return commit


def _fill(made: Draft, operations: Iterable[Operation]) -> None:
    for each in operations:
        if isinstance(each, Remove):
            made.remove(each.path, is_folder=each.is_folder)
        else:
            made.put(each.path, each.entry)


def _blob(folder: Path, sha256: str) -> Path:
    return folder / "blobs" / check_sha256(sha256)


def _taken(base: Tree, head: Tree, main: Tree, number: int) -> Iterator[Operation]:
    """What takes the changes from base to head into main. Raises `RefusedError` (409) where main changed it too."""
    changed = [path for path in sorted({*base, *head}) if not same(base.get(path), head.get(path))]
    changed = [path for path in changed if not same(main.get(path), head.get(path))]
    if clashing := [path for path in changed if not same(main.get(path), base.get(path))]:
        raise RefusedError(409, f"The pull request {number} conflicts with main in {', '.join(clashing)}")
    for path in changed:
        yield AddFile(path, head[path]) if path in head else Remove(path, is_folder=False)
