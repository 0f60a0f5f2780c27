"""A base by its Hub id: where its files are, what they hash to, under which licence. Loads no weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit import tiny
from toolkit.endpoint import hub, hub_errors
from toolkit.errors import InputError
from toolkit.folder import MANIFEST, json_hash, sha256_file
from toolkit.markdown import front_matter

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


def locate_base(base: str, revision: str | None = None) -> LocatedBase:
    """Find a base by Hub id, downloading it when it is not cached; the tiny base comes with the toolkit.

    Raises:
        InputError: A folder's path, which nobody else could load the adapter with, or not an id.
        HubError, EnvironmentLacks: Unknown, unreachable or gated.
    """
    if base == tiny.BASE_ID:
        return LocatedBase(base, revision, tiny.base_folder())
    snapshot = _download(base, revision, WEIGHTS_AND_TOKENIZER)
    return LocatedBase(base, snapshot.name, snapshot)


def locate_tokenizer(base: str) -> Path:
    """A folder with the tokenizer of a base given by Hub id; its weights are not downloaded.

    Raises:
        InputError, HubError, EnvironmentLacks: As `locate_base`.
    """
    return tiny.base_folder() if base == tiny.BASE_ID else _download(base, None, TOKENIZER)


def _download(base: str, revision: str | None, patterns: list[str]) -> Path:
    if Path(base).is_dir():
        raise InputError(
            f"The base {base} is a folder.",
            "Push it to a Hub (the local one will do) and give its id, so that others can load the adapter.",
        )
    with hub_errors(f"The base {base}"):
        return Path(hub().snapshot_download(base, revision=revision, allow_patterns=patterns))


def base_hash(base: LocatedBase) -> str:
    """One SHA-256 for the base's weights, configuration and tokenizer."""
    suffixes = (".safetensors", ".json", ".model", ".jinja")
    kept = sorted(path for path in base.path.iterdir() if path.suffix in suffixes and path.name != MANIFEST)
    return json_hash({path.name: sha256_file(path) for path in kept})


def base_license(base: LocatedBase) -> str:
    """Licence id from the base's card, or `other` when it states none that can be read."""
    card = base.path / "README.md"
    try:
        metadata = front_matter(card.read_text(encoding="utf-8")) if card.is_file() else {}
    except ValueError:
        metadata = {}
    return str(metadata.get("license") or "other")
