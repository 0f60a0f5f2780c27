"""A repository as it is on the Hub: its commit, its files, what pkt wrote there, and what somebody edited since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import is_manifest, sha256_file
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import MANIFEST
from toolkit.hub.contents import CARDS, EDITED

ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository as it is on the Hub.

    Attributes:
        revision: The commit of its main branch; None when there is no such repository.
        private: Whether only its owner sees it.
        files: Size and id of each file: the SHA-256 of a large one, of a small one what git calls it.
        manifest: What pkt wrote there last; empty when it never did.
        tags: The commit of each tag.
    """

    repo_id: str
    repo_type: str
    revision: str | None
    private: bool
    files: Mapping[str, tuple[int, str]]
    manifest: Mapping[str, Any]
    tags: Mapping[str, str]

    @property
    def subject(self) -> str:
        """What errors call it."""
        return f"The {self.repo_type} {self.repo_id}"


def look(repo_id: str, kind: str) -> Remote:
    """What a repository holds now.

    Raises:
        HubError: It holds somebody else's files, or the Hub refused or can not be reached.
        InputError: Not a Hub id.
    """
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    # A Hub takes a bare name as the user's own when it makes a repository, and as no such repository ever after.
    if repo_id.count("/") != 1:
        raise InputError(f"{repo_id} is not a Hub id.", "Write it as owner/name.")
    repo_type = kind if kind in ("dataset", "space") else "model"
    remote = Remote(repo_id, repo_type, None, False, {}, {}, {})
    with hub_errors(remote.subject):
        try:
            info = hub().repo_info(repo_id, repo_type=repo_type)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            if error.response.status_code == 401 and token_in_use():
                raise
            return remote
        revision = str(info.sha)
        files = files_at(repo_id, repo_type, revision)
        refs = hub().list_repo_refs(repo_id, repo_type=repo_type)
        manifest = manifest_at(repo_id, repo_type, revision) if MANIFEST in files else None
    _check_own(remote, kind, manifest, files)
    tags = {tag.name: str(tag.target_commit) for tag in refs.tags}
    return Remote(repo_id, repo_type, revision, bool(info.private), files, manifest or {}, tags)


def files_at(repo_id: str, repo_type: str, revision: str) -> dict[str, tuple[int, str]]:
    """Size and id of every file of a repository at a commit."""
    from huggingface_hub.hf_api import RepoFile

    tree = hub().list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=repo_type)
    return {
        entry.path: (entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    }


def read_at(repo_id: str, repo_type: str, revision: str, name: str) -> bytes:
    """A small file of a repository at a commit. It does not go into the cache, where it would pass for a snapshot."""
    with TemporaryDirectory() as folder:
        file = hub().hf_hub_download(repo_id, name, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(file).read_bytes()


def manifest_at(repo_id: str, repo_type: str, revision: str) -> Any:
    """What a repository's manifest holds at a commit; None when it is not JSON."""
    try:
        return json.loads(read_at(repo_id, repo_type, revision, MANIFEST))
    except ValueError as error:
        from huggingface_hub.errors import HfHubHTTPError

        if isinstance(error, HfHubHTTPError):
            raise
        return None


def _check_own(remote: Remote, kind: str, manifest: Any, files: Mapping[str, Any]) -> None:
    """A repository must be empty or hold what pkt wrote there: else the name is taken."""
    names = [name for name in files if name != ATTRIBUTES]
    if names and not is_manifest(manifest, kind):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise HubError(
            f"{remote.subject} holds files that pkt did not write ({shown}).",
            "Choose another REPO_ID, or empty it first.",
        )


def cards_edited_there(remote: Remote, kind: str) -> dict[str, bytes]:
    """The cards that somebody edited on the Hub since pkt wrote them, each with what it says now."""
    hashes, known = remote.manifest.get("files") or {}, remote.manifest.get(EDITED) or {}
    found = {}
    for name in CARDS[kind]:
        if name in remote.files and name in hashes:
            with hub_errors(remote.subject):
                content = read_at(remote.repo_id, remote.repo_type, str(remote.revision), name)
            digest = hashlib.sha256(content).hexdigest()
            if digest != hashes[name] or digest == known.get(name):
                found[name] = content
    return found


def id_like(path: Path, there: str) -> str:
    """The id of a file, of the kind that the Hub's has: a SHA-256 or a git blob's SHA-1."""
    from huggingface_hub.utils.sha import git_hash

    return sha256_file(path) if len(there) == 64 else git_hash(path.read_bytes())


def page_of(remote: Remote) -> str:
    """The address of a repository's page."""
    kind = "" if remote.repo_type == "model" else f"{remote.repo_type}s/"
    return f"{hub().endpoint}/{kind}{remote.repo_id}"


def token_in_use() -> str | None:
    """The token that the Hub's clients send."""
    from huggingface_hub import get_token

    return get_token()
