"""Read repositories on the Hub: the one to publish to, and the base and the dataset that an adapter refers to.

All functions that ask the Hub raise HubError and EnvironmentLacks as `hub_errors` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import is_manifest, json_hash, sha256_file
from toolkit.core.hub_client import endpoint, hub, hub_errors, is_hub_id
from toolkit.core.layout import BENCHMARK, MANIFEST, TASK, TINY_BASE_ID, TOKENIZER_CONFIG
from toolkit.data.dataset import rows_hash_of
from toolkit.hub.contents import edited_cards
from toolkit.model.base import HASHED
from toolkit.model.loading import load_tokenizer

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

ATTRIBUTES = ".gitattributes"


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository as it is on the Hub, with the commit of each of its tags.

    Attributes:
        revision: The commit of its main branch; None when there is no such repository.
        files: Size and id of each file: the SHA-256 of a large one, the git blob id of a small one.
        manifest: The manifest that pkt wrote there last; empty when there is none.
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
        """Its name in errors."""
        return f"The {self.repo_type} {self.repo_id}"

    @property
    def url(self) -> str:
        """The address of its page."""
        kind = "" if self.repo_type == "model" else f"{self.repo_type}s/"
        return f"{endpoint()}/{kind}{self.repo_id}"


def read_remote(repo_id: str, kind: str) -> Remote:
    """The present state of a repository for a folder of this kind: `dataset`, `adapter`, `base` or `space`.

    Raises:
        HubError: It holds files that pkt did not write.
        InputError: Not a Hub id.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    check_hub_id(repo_id)
    repo_type = kind if kind in ("dataset", "space") else "model"
    absent = Remote(repo_id, repo_type, None, False, {}, {}, {})
    with hub_errors(absent.subject):
        try:
            info = hub().repo_info(repo_id, repo_type=repo_type)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            if error.response.status_code == 401 and get_token():
                raise
            return absent
        revision = str(info.sha)
        files = files_at(repo_id, repo_type, revision)
        refs = hub().list_repo_refs(repo_id, repo_type=repo_type)
        manifest = manifest_at(repo_id, repo_type, revision) if MANIFEST in files else {}
    names = [name for name in files if name != ATTRIBUTES]
    if names and not is_manifest(manifest, kind):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise HubError(
            f"{absent.subject} holds files that pkt did not write ({shown}).", "Choose another repository, or empty it."
        )
    tags = {tag.name: str(tag.target_commit) for tag in refs.tags}
    return Remote(repo_id, repo_type, revision, bool(info.private), files, manifest, tags)


def check_hub_id(repo_id: str) -> None:
    """Raise InputError for a bare name: a Hub creates it for the user, and then finds no repository under it."""
    if not is_hub_id(repo_id):
        raise InputError(f"{repo_id} is not a Hub id.", "Write it as owner/name.")


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
    """A small file of a repository at a commit. It stays out of the cache, where it would pass for a snapshot."""
    with TemporaryDirectory() as folder:
        file = hub().hf_hub_download(repo_id, name, repo_type=repo_type, revision=revision, local_dir=folder)
        return Path(file).read_bytes()


def manifest_at(repo_id: str, repo_type: str, revision: str) -> dict[str, Any]:
    """The manifest of a repository at a commit; empty when it is not a JSON object."""
    content = read_at(repo_id, repo_type, revision, MANIFEST)
    try:
        manifest = json.loads(content)
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def cards_edited_there(remote: Remote, kind: str) -> dict[str, bytes]:
    """The cards that somebody edited on the Hub since pkt wrote them, each with its present content."""

    def read(name: str) -> bytes | None:
        there = name in remote.files
        return read_at(remote.repo_id, remote.repo_type, str(remote.revision), name) if there else None

    with hub_errors(remote.subject):
        return edited_cards(kind, remote.manifest, read)


def same_file(path: Path, there: tuple[int, str] | None) -> bool:
    """Whether a file here is the one of this size and id on the Hub."""
    from huggingface_hub.utils.sha import git_hash

    if there is None or there[0] != path.stat().st_size:
        return False
    return there[1] == (sha256_file(path) if len(there[1]) == 64 else git_hash(path.read_bytes()))


# What an adapter refers to.


def base_on_hub(folder: Path, base: Mapping[str, Any], base_repo: str | None = None) -> dict[str, Any]:
    """The `base` of an adapter's manifest, with its id and its commit on this Hub.

    Its Hub id is `base_repo` where it was trained under another name.

    Raises:
        InputError: It is no repository, is not the one that was trained on, or lacks tokens of the folder's tokenizer.
    """
    name = base_repo or str(base["id"])
    if not is_hub_id(name):
        raise InputError(
            f"The base {name} is no repository of a Hub, so nobody else could load the adapter.",
            "Upload it, and give its id as `base_repo`.",
        )
    # The tiny base has another commit on every Hub, so the one of an earlier publication does not count.
    wanted = None if name == TINY_BASE_ID or base_repo else base.get("revision")
    with hub_errors(f"The base {name}"):
        info = hub().model_info(name, revision=wanted, files_metadata=True)
        if wanted is None and base.get("content") and _content(name, info) != base["content"]:
            raise InputError(
                f"The base {name} on the Hub has other files than the one that was trained on.",
                "Give the right one as `base_repo`, or train again.",
            )
        config = json.loads(read_at(name, "model", str(info.sha), "config.json"))
    known = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    tokens = len(load_tokenizer(folder)) if (folder / TOKENIZER_CONFIG).is_file() else 0
    if isinstance(known, int) and tokens > known:
        raise InputError(
            f"The tokenizer in {folder} has {tokens:,} tokens, and the base {name} only {known:,}: whoever loads the "
            "adapter would get another base.",
            "Train it again on this base.",
        )
    return {**base, "id": name, "revision": str(info.sha)}


def _content(name: str, info: ModelInfo) -> str:
    """`model.base.base_hash` of a repository; small files are read, large ones known by their hash."""
    hashes = {}
    for file in sorted(info.siblings or [], key=lambda file: file.rfilename):
        path = file.rfilename
        if "/" not in path and path != MANIFEST and path.endswith(HASHED):
            small = b"" if file.lfs else read_at(name, "model", str(info.sha), path)
            hashes[path] = file.lfs.sha256 if file.lfs else hashlib.sha256(small).hexdigest()
    return json_hash(hashes)


def dataset_on_hub(repo_id: str, trained_on: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The dataset that was trained on, with its id and its commit on this Hub; and notes for the user.

    Raises:
        InputError: Not a dataset of this toolkit, or another than the one that was trained on.
    """
    info, manifest = read_published(repo_id, "dataset")
    if rows_hash_of(manifest.get("files") or {}) != trained_on["content"]:
        raise InputError(
            f"The dataset {repo_id} is not the one that this adapter was trained on.",
            "Push that dataset, or train again.",
        )
    notes = [f"The dataset {repo_id} is private: readers of the card cannot open it."] if info.private else []
    # A dataset that an older version pushed is no benchmark, whatever its twin on this machine is.
    task = TASK if BENCHMARK in [file.rfilename for file in info.siblings or []] else None
    return {**trained_on, "id": repo_id, "revision": str(info.sha), "task": task}, notes


def read_published(
    repo_id: str, kind: str, revision: str | None = None
) -> tuple[ModelInfo | DatasetInfo, dict[str, Any]]:
    """The Hub's description of a dataset or adapter, and its manifest; InputError when pkt did not publish it."""
    repo_type, look_up = ("dataset", hub().dataset_info) if kind == "dataset" else ("model", hub().model_info)
    with hub_errors(f"The {kind} {repo_id}"):
        info = look_up(repo_id, revision=revision)
        there = [file.rfilename for file in info.siblings or []]
        manifest = manifest_at(repo_id, repo_type, str(info.sha)) if MANIFEST in there else {}
    if not is_manifest(manifest, kind):
        command = "`pkt push-dataset`" if kind == "dataset" else "`pkt publish`"
        raise InputError(f"The {kind} {repo_id} was not published by pkt.", f"Publish it with {command}.")
    return info, manifest
