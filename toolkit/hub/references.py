"""What an adapter refers to, on the Hub where it is published: its base and its dataset, each at a commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.cards.metadata import is_hub_id
from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import is_manifest, json_hash
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import MANIFEST, TINY_BASE_ID
from toolkit.data.dataset import data_hash
from toolkit.hub.remote import manifest_at, read_at
from toolkit.model.loading import load_tokenizer

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

HASHED = (".safetensors", ".json", ".model", ".jinja")


def base_on_hub(folder: Path, base: Mapping[str, Any], base_repo: str | None = None) -> dict[str, Any]:
    """The base as the manifest of an adapter folder names it, with its id and its commit on this Hub.

    Args:
        folder: The adapter folder, whose tokenizer has to fit the base.
        base: What training knows of the base: `id`, `revision`, and `content`, the hash of its files.
        base_repo: The Hub id of the same base, where it was trained under another name.

    Raises:
        InputError: The base is no repository, or is not the one that was trained on.
        HubError, EnvironmentLacks: It is not on the Hub, gated, or the Hub refused.
    """
    name = base_repo or str(base["id"])
    if not is_hub_id(name):
        raise InputError(
            f"The base {name} is no repository of a Hub, so nobody else could load the adapter.",
            "Upload it, and name it with --base-repo OWNER/NAME.",
        )
    # Every Hub has commits of its own of the tiny base, so one that an earlier publication named says nothing here.
    wanted = None if name == TINY_BASE_ID or base_repo else base.get("revision")
    with hub_errors(f"The base {name}"):
        info = hub().model_info(name, revision=wanted, files_metadata=True)
        if wanted is None and base.get("content") and _content(name, info) != base["content"]:
            raise HubError(
                f"The base {name} on the Hub has other files than the one that was trained on.",
                "Name the right one with --base-repo, or train again."
                if name != TINY_BASE_ID
                else "Update pkt or that base, and train again.",
            )
        rows = _rows(json.loads(read_at(name, "model", str(info.sha), "config.json")))
    tokens = len(load_tokenizer(folder)) if (folder / "tokenizer_config.json").is_file() else 0
    if rows is not None and tokens > rows:
        raise InputError(
            f"The tokenizer in {folder} has {tokens:,} tokens, and the base {name} only {rows:,}: whoever loads the "
            "adapter would get another base.",
            "Train it again on this base.",
        )
    return {**base, "id": name, "revision": str(info.sha)}


def _content(name: str, info: ModelInfo) -> str:
    """What `bases.base_hash` says of the files in a repository; small ones are read, large ones known by their hash."""
    hashes = {}
    for file in sorted(info.siblings or [], key=lambda file: file.rfilename):
        if "/" in file.rfilename or file.rfilename == MANIFEST or not file.rfilename.endswith(HASHED):
            continue
        hashes[file.rfilename] = (
            file.lfs.sha256
            if file.lfs
            else hashlib.sha256(read_at(name, "model", str(info.sha), file.rfilename)).hexdigest()
        )
    return json_hash(hashes)


def _rows(config: Mapping[str, Any]) -> int | None:
    """How many tokens a base knows, by its `config.json`."""
    rows = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return rows if isinstance(rows, int) else None


def dataset_on_hub(repo_id: str, trained_on: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The dataset that was trained on, with its id and its commit on this Hub, and what is to be said of it.

    Raises:
        InputError: Not a dataset of this toolkit, or another than the one that was trained on.
        HubError, EnvironmentLacks: It is not on the Hub, or the Hub refused.
    """
    with hub_errors(f"The dataset {repo_id}"):
        info = hub().dataset_info(repo_id)
        there = [file.rfilename for file in info.siblings or []]
        manifest: Any = manifest_at(repo_id, "dataset", str(info.sha)) if MANIFEST in there else None
    files = manifest.get("files") if is_manifest(manifest, "dataset") else None
    if not isinstance(files, dict):
        raise InputError(f"The dataset {repo_id} was not pushed by pkt.", "Push it with `pkt push-dataset`.")
    if data_hash(files) != trained_on["content"]:
        raise InputError(
            f"The dataset {repo_id} is not the one that this adapter was trained on.",
            "Push that dataset, or train again.",
        )
    notes = [f"The dataset {repo_id} is private: who reads the card can not open it."] if info.private else []
    return {**trained_on, "id": repo_id, "revision": str(info.sha)}, notes
