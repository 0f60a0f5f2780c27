"""What a repository consists of, and the operations that lead from one commit to the next."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from toolkit.hub.local.names import RepoId
from toolkit.hub.local.refusal import malformed

RefKind = Literal["branches", "tags"]


@dataclass(frozen=True)
class FileEntry:
    """One file of a commit. `oid` is git's id of it (of the pointer for LFS); `commit` last changed it."""

    sha256: str
    size: int
    oid: str
    lfs: bool
    commit: str

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    id: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, FileEntry]


@dataclass(frozen=True)
class Discussion:
    """A conversation about a repository; a pull request when it has a `head`, the commit that `refs/pr/NUMBER` names.

    `base` is the commit of main that the pull request began from, `merged` the one that took it in. Each of `events`
    has `id`, `type`, `at`, `by` and what the type needs (see `pulls.py`).
    """

    number: int
    title: str
    author: str
    created_at: str
    status: str
    events: tuple[dict[str, Any], ...]
    base: str | None = None
    head: str | None = None
    merged: str | None = None

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"

    @property
    def is_open(self) -> bool:
        return self.status in ("open", "draft")


@dataclass(frozen=True)
class Repository:
    """A repository as it stands now; `branches` and `tags` map names to commit ids.

    `gated` is None, `auto` or `manual`: who asks for its files gets them at once, or when an owner agrees. `requests`
    maps the users who asked, or were let in, to `id`, `status` (`pending`, `accepted` or `rejected`) and `at`.
    """

    repo: RepoId
    private: bool
    created_at: str
    branches: dict[str, str]
    tags: dict[str, str]
    discussions: tuple[Discussion, ...] = ()
    gated: str | None = None
    requests: Mapping[str, dict[str, str]] = field(default_factory=dict)

    def request_status(self, user: str | None) -> str | None:
        """What became of a user's request for the files; None when there is none."""
        return self.requests.get(user or "", {}).get("status")

    def refs(self, kind: RefKind) -> dict[str, str]:
        return self.branches if kind == "branches" else self.tags

    def with_refs(self, kind: RefKind, refs: dict[str, str]) -> "Repository":
        return replace(self, branches=refs) if kind == "branches" else replace(self, tags=refs)

    def named(self) -> dict[str, str]:
        """Every reference in full, `refs/heads/main` or `refs/pr/1`, with its commit."""
        heads = {f"refs/heads/{name}": commit for name, commit in self.branches.items()}
        tags = {f"refs/tags/{name}": commit for name, commit in self.tags.items()}
        return heads | tags | {each.ref: each.head for each in self.discussions if each.head is not None}

    def pull(self, ref: str) -> Discussion | None:
        """The pull request that a reference names, if any does."""
        return next((each for each in self.discussions if each.ref == ref and each.head is not None), None)

    def with_discussion(self, discussion: Discussion) -> "Repository":
        """The repository with a new discussion, or with a changed one in its place."""
        others = {each.number: each for each in self.discussions}
        return replace(self, discussions=tuple((others | {discussion.number: discussion}).values()))


@dataclass(frozen=True)
class AddFile:
    """Add or replace a file whose bytes came with the request."""

    path: str
    content: bytes


@dataclass(frozen=True)
class AddLfsFile:
    """Add or replace a file whose bytes the repository already has. A copy does not tell its size."""

    path: str
    sha256: str
    size: int | None


@dataclass(frozen=True)
class Remove:
    path: str
    is_folder: bool


Operation = AddFile | AddLfsFile | Remove


def git_blob_id(content: bytes) -> str:
    """The id that git gives a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The small file that git keeps in place of a large one (git-lfs pointer specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def parent_folders(path: str) -> list[str]:
    """`a/b/c` -> `a`, `a/b`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def check_no_file_is_a_folder(files: Mapping[str, FileEntry]) -> None:
    """Raises `RefusedError` (400): no checkout could hold `a` next to `a/b`."""
    for path in files:
        for folder in parent_folders(path):
            if folder in files:
                raise malformed(f"{folder!r} can not be a file and the folder of {path!r}")
