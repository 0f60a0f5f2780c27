"""What repositories, files and references may be called. No name that passes can leave the root folder."""

import re
from dataclasses import dataclass

from toolkit.hub.local.refusal import malformed

KINDS = ("models", "datasets", "spaces")
SHA = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")

_NAME = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_RESERVED_NAMESPACES = {"api", *KINDS}  # they begin the Hub's own addresses
_FORBIDDEN_IN_PATH = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//")


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
    """The checked address. Raises `RefusedError` (400) by the Hub's own rules for names."""
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


def check_path(path: str) -> str:
    """`path` when a repository may hold it. Raises `RefusedError` (400)."""
    parts = path.split("/")
    if _FORBIDDEN_IN_PATH.search(path) or any(part in ("", ".", "..", ".git") for part in parts):
        raise malformed(f"Invalid path in repository: {path!r}")
    return path


def check_ref(name: str) -> str:
    """`name` when git would accept it for a branch or tag. Raises `RefusedError` (400)."""
    parts = name.split("/")
    unusable = any(part == "" or part.startswith((".", "-")) or part.endswith((".", ".lock")) for part in parts)
    if unusable or _FORBIDDEN_IN_REF.search(name) or SHA.fullmatch(name) or name.startswith("refs/"):
        raise malformed(f"Invalid name for a branch or tag: {name!r}")
    return name
