"""A base by its Hub id: where its files are, what they hash to, under which licence. Loads no weights.

What is known before the download is said before it: a repository that holds no base, a machine without the room for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.cards.page import front_matter
from toolkit.core.errors import HubError, InputError
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import MANIFEST, TINY_BASE_ID
from toolkit.core.recipe import Recipe
from toolkit.model import tiny
from toolkit.model.machine import this_machine
from toolkit.model.offers import look_up, read_config
from toolkit.model.requirements import shape_of
from toolkit.model.room import check_disk, check_memory, check_training

WEIGHTS_AND_TOKENIZER = ["*.safetensors", "*.json", "*.model", "*.jinja", "README.md"]
TOKENIZER = [
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "*.model", "*.jinja"),
    # Without a class of its own in tokenizer_config.json, a tokenizer is that of the model's architecture.
    "config.json",
]


@dataclass(frozen=True, slots=True)
class LocatedBase:
    """A base model whose files are on this machine.

    Attributes:
        id: Hub id, which is what an adapter names as its base.
        revision: Commit on the Hub; None when it is not known.
        path: Where its files are.
    """

    id: str
    revision: str | None
    path: Path


def locate_base(
    base: str,
    revision: str | None = None,
    *,
    quantization: str = "nf4",
    recipe: Recipe | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> LocatedBase:
    """Find a base by Hub id, downloading it when it is not cached; the tiny base comes with the toolkit.

    Before the download it is seen that the repository holds a base, and that this machine has room for it.

    Args:
        base: Hub id.
        revision: Commit, branch or tag; a commit that is cached needs no network.
        quantization: How the base will be held, `nf4` or `none`.
        recipe: What it will be trained by; without it, only loading is thought of.
        note: Told in a sentence what the user had better know before the download.

    Raises:
        InputError: A folder's path, which nobody else could load the adapter with, not an id, or no base that can be
            trained: an adapter, pickled or GGUF weights, an architecture that transformers does not know.
        HubError: Unknown, private, or unreachable and not cached.
        EnvironmentLacks: Gated, or too large for this machine.
    """
    if base == TINY_BASE_ID:
        return LocatedBase(base, revision, tiny.base_folder())
    _refuse_folder(base)

    def see_room(config: Mapping[str, Any], parameters: int | None) -> None:
        shape = shape_of(config, parameters)
        if shape is not None and recipe is not None:
            check_training(base, shape, recipe, this_machine(), note)
        elif shape is not None:
            check_memory(base, shape, quantization, this_machine())

    with hub_errors(f"The base {base}"):
        offer = None if _cached(base, revision) else look_up(base, revision, WEIGHTS_AND_TOKENIZER)
        if offer is not None:
            check_disk(base, offer.download, _cache())
            see_room(offer.config, offer.parameters)
        snapshot = _download(base, revision, WEIGHTS_AND_TOKENIZER)
    if offer is None:
        if not _is_base(snapshot):
            raise HubError(
                f"The Hub can not be reached, and only a part of the base {base} is in the cache.", "Check the network."
            )
        see_room(read_config(base, snapshot / "config.json"), None)
    return LocatedBase(base, snapshot.name, snapshot)


def locate_tokenizer(base: str) -> Path:
    """A folder with the tokenizer of a base given by Hub id; its weights are not downloaded.

    Raises:
        InputError, HubError, EnvironmentLacks: As `locate_base`.
    """
    if base == TINY_BASE_ID:
        return tiny.base_folder()
    _refuse_folder(base)
    with hub_errors(f"The base {base}"):
        return _download(base, None, TOKENIZER)


def _refuse_folder(base: str) -> None:
    if Path(base).is_dir():
        raise InputError(
            f"The base {base} is a folder.",
            "Push it to a Hub (the local one will do) and give its id, so that others can load the adapter.",
        )


def _download(base: str, revision: str | None, patterns: list[str]) -> Path:
    return Path(hub().snapshot_download(base, revision=revision, allow_patterns=patterns))


def _cached(base: str, revision: str | None) -> bool:
    """Whether a commit is in the cache: nothing about it can have changed, so nobody has to be asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if revision is None or not re.fullmatch("[0-9a-f]{40}", revision):
        return False
    try:
        snapshot = hub().snapshot_download(
            base, revision=revision, allow_patterns=WEIGHTS_AND_TOKENIZER, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return False
    return _is_base(Path(snapshot))


def cached_config(base: str, revision: str | None = None) -> Path | None:
    """The configuration of a base, where that is on this machine; nobody is asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if base == TINY_BASE_ID:
        return tiny.base_folder() / "config.json"
    try:
        found = try_to_load_from_cache(base, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _is_base(snapshot: Path) -> bool:
    return (snapshot / "config.json").is_file() and any(snapshot.glob("*.safetensors"))


def _cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def base_hash(base: LocatedBase) -> str:
    """One SHA-256 for the base's weights, configuration and tokenizer.

    Raises:
        InputError: A large file in the Hub's cache is not the one that was downloaded.
    """
    suffixes = (".safetensors", ".json", ".model", ".jinja")
    kept = sorted(path for path in base.path.iterdir() if path.suffix in suffixes and path.name != MANIFEST)
    hashes = {path.name: sha256_file(path) for path in kept}
    for path in kept:
        # The cache names large files by their hash.
        named = path.resolve().name
        if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", named) and named != hashes[path.name]:
            raise InputError(
                f"{path.name} of the base {base.id} is damaged in the cache.",
                f"Delete {_in_cache(base)} and run again: it is then downloaded anew.",
            )
    return json_hash(hashes)


def _in_cache(base: LocatedBase) -> Path:
    return base.path.parents[1]


def how_to_mend(base: LocatedBase) -> str:
    """What to do about a base that can not be loaded: its copy in the cache may be damaged."""
    if base.path.parent.name != "snapshots":
        return "Choose another base."
    return f"Choose another base; or, if this copy of it is damaged, delete {_in_cache(base)} and run again."


def base_license(base: LocatedBase) -> str:
    """Licence id from the base's card, or `other` when it states none that can be read."""
    card = base.path / "README.md"
    try:
        metadata = front_matter(card.read_text(encoding="utf-8")) if card.is_file() else {}
    except ValueError:
        metadata = {}
    return str(metadata.get("license") or "other")
