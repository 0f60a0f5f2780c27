"""What a repository consists of, what its parts may be called, and how the Hub refuses a request.

Clients choose their exception from the status and two headers, never from the body: a HEAD has none.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

KINDS = ("models", "datasets", "spaces")
MAIN = "main"
SHA256 = re.compile(r"[0-9a-f]{64}")
# The client takes any other 401 for a repository that does not exist.
BAD_TOKEN = "Invalid credentials in Authorization header"

_NAME = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_RESERVED_NAMESPACES = {"api", *KINDS}  # the Hub's own addresses begin with them
_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_REF = re.compile(r"(?!refs/|[0-9a-f]{40}$)\w[\w.+#@-]*(?:/\w[\w.+#@-]*)*")

RefKind = Literal["heads", "tags"]  # as git calls branches and tags

# Refusals


class RefusedError(Exception):
    """A request that the Hub refuses; `code` is the `X-Error-Code` that selects the client's exception."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.extra: dict[str, object] = {}  # fields of the body beside `error`


def malformed(message: str) -> RefusedError:
    return RefusedError(400, message)


def repo_not_found(*, stranger: bool = False) -> RefusedError:
    """The refusal of a missing repository, or of a private one: 401 for a stranger, whom a token may help."""
    return RefusedError(401 if stranger else 404, "Repository not found", code="RepoNotFound")


def revision_not_found(revision: str) -> RefusedError:
    return RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")


def entry_not_found(message: str, commit_id: str | None = None) -> RefusedError:
    """The refusal of a missing file. With `commit_id`, clients remember that this commit lacks it."""
    return RefusedError(404, message, code="EntryNotFound", headers={"X-Repo-Commit": commit_id} if commit_id else None)


# Names: none that passes leads out of the root folder


@dataclass(frozen=True)
class RepoId:
    """A repository's address: `kind` is one of `KINDS`. Build it with `repo_id`, which checks the names."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def url_path(self) -> str:
        """The path of its page; models live at the top."""
        return f"/{self}" if self.kind == "models" else f"/{self.kind}/{self}"


def repo_id(kind: str, namespace: str, name: str) -> RepoId:
    """The checked address. Raises `RefusedError` (400) by the public Hub's rules for names."""
    if kind not in KINDS:
        raise malformed(f"Unknown type of repository: {kind!r}")
    for part in (namespace, name):
        if not _NAME.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
            raise malformed(
                f"Invalid name {part!r}: use up to 96 of A-Z a-z 0-9 - _ . without '--' or '..', "
                "not starting or ending with - or ., not ending with .git"
            )
    if namespace in _RESERVED_NAMESPACES:
        raise malformed(f"The namespace {namespace!r} is reserved")
    return RepoId(kind, namespace, name)


def is_path(path: str) -> bool:
    """Whether a repository may hold it."""
    return not _FORBIDDEN_IN_PATH.search(path) and not {"", ".", "..", ".git"} & {*path.split("/")}


def check_path(path: str) -> str:
    """`path` when a repository may hold it. Raises `RefusedError` (400)."""
    if not is_path(path):
        raise malformed(f"Invalid path in repository: {path!r}")
    return path


def check_sha256(text: str) -> str:
    """`text` when it is a sha256. Raises `RefusedError` (400)."""
    if not SHA256.fullmatch(text):
        raise malformed(f"Not a sha256: {text!r}")
    return text


def check_ref(name: str) -> str:
    """`name` when it can be one of a branch or tag. Raises `RefusedError` (400)."""
    if not _REF.fullmatch(name):
        raise malformed(f"Invalid name for a branch or tag: {name!r}")
    return name


def parent_folders(path: str) -> list[str]:
    """`a/b/c` -> `a`, `a/b`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


# What a repository consists of


@dataclass(frozen=True)
class FileEntry:
    """One file of a commit. `oid` is git's id of it (of the pointer for LFS); `changed` counts its last commit."""

    sha256: str
    size: int
    oid: str
    lfs: bool
    changed: int = 0

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


Tree = Mapping[str, FileEntry]  # by path


@dataclass(frozen=True)
class PullRequest:
    """A change proposed to main; `status` is `open`, `closed` or `merged`.

    `base` is the commit of main that it began from, and `head` its newest commit.
    """

    number: int
    title: str
    author: str
    created_at: str
    status: str
    base: str
    head: str

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"

    @property
    def is_open(self) -> bool:
        return self.status not in ("closed", "merged")


@dataclass(frozen=True)
class Repository:
    """A repository as it stands now; `branches` and `tags` map names to commit ids, `former` names to when they ended.

    The files of a `gated` one (`auto` or `manual`, as the public Hub calls it) are for those who may write to it alone.
    """

    repo: RepoId
    private: bool
    created_at: str
    branches: dict[str, str]
    tags: dict[str, str]
    pulls: tuple[PullRequest, ...] = ()
    gated: str | None = None
    former: dict[str, str] = field(default_factory=dict)

    def refs(self, kind: RefKind) -> dict[str, str]:
        return self.branches if kind == "heads" else self.tags

    def with_refs(self, kind: RefKind, refs: dict[str, str]) -> "Repository":
        return replace(self, branches=refs) if kind == "heads" else replace(self, tags=refs)

    def pull(self, ref: str) -> PullRequest | None:
        """The pull request that a reference (`refs/pr/1`) names, if any does."""
        return next((each for each in self.pulls if each.ref == ref), None)

    def with_pull(self, pull: PullRequest) -> "Repository":
        """The repository with a new pull request, or with a changed one in its place."""
        return replace(self, pulls=tuple(({each.number: each for each in self.pulls} | {pull.number: pull}).values()))


# What leads from one commit to the next


@dataclass(frozen=True)
class AddFile:
    """Add or replace a file whose bytes came with the request, or that the repository has elsewhere."""

    path: str
    entry: FileEntry


@dataclass(frozen=True)
class Remove:
    path: str
    is_folder: bool


Operation = AddFile | Remove


@dataclass(frozen=True)
class Change:
    """A commit to make: `operations` in their order. `parent`, an id or its beginning, must be the newest commit.

    `contents` is a folder of the bytes that came with the request, each in a file called by its sha256.
    """

    operations: tuple[Operation, ...]
    title: str
    message: str
    author: str
    parent: str | None = None
    contents: Path | None = None


def git_blob_id(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small file that git keeps in place of a large one (git-lfs pointer specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
