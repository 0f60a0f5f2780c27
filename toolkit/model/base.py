"""A base by its Hub id: look it up, refuse what cannot be trained, download it, hash it. Loads no weights."""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toolkit.cards.page import front_matter
from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.hub_client import DEFAULT_ENDPOINT, hub, hub_errors, without_secrets
from toolkit.core.layout import MANIFEST, TINY_BASE_ID
from toolkit.core.recipe import Recipe
from toolkit.model.memory import check_disk, check_memory, check_training, shape_of, this_machine

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from huggingface_hub.errors import RepositoryNotFoundError

WEIGHTS_AND_TOKENIZER = ["*.safetensors", "*.json", "*.model", "*.jinja", "README.md"]
TOKENIZER = [
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "*.model", "*.jinja"),
    # Without a class of its own in tokenizer_config.json, a tokenizer is that of the model's architecture.
    "config.json",
]
CONFIG = "config.json"
# Suffixes of the files that a base's hash covers.
HASHED = (".safetensors", ".json", ".model", ".jinja")
# Formats that run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


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


def tiny_base_folder() -> Path:
    """The folder of the tiny base in the installed package."""
    return Path(__file__).with_name("tiny") / "base"


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
        return LocatedBase(base, revision, tiny_base_folder())
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
        return tiny_base_folder()
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
        return tiny_base_folder() / "config.json"
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
    kept = sorted(path for path in base.path.iterdir() if path.suffix in HASHED and path.name != MANIFEST)
    hashes = {path.name: sha256_file(path) for path in kept}
    for path in kept:
        # The cache names large files by their hash.
        named = path.resolve().name
        if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", named) and named != hashes[path.name]:
            raise InputError(
                f"{path.name} of the base {base.id} is damaged in the cache.",
                f"Delete {_cache_folder(base)} and run again: it is then downloaded anew.",
            )
    return json_hash(hashes)


def _cache_folder(base: LocatedBase) -> Path:
    return base.path.parents[1]


def how_to_mend(base: LocatedBase) -> str:
    """What to do about a base that can not be loaded: its copy in the cache may be damaged."""
    if base.path.parent.name != "snapshots":
        return "Choose another base."
    return f"Choose another base; or, if this copy of it is damaged, delete {_cache_folder(base)} and run again."


def base_license(base: LocatedBase) -> str:
    """Licence id from the base's card, or `other` when it states none that can be read."""
    card = base.path / "README.md"
    try:
        metadata = front_matter(card.read_text(encoding="utf-8")) if card.is_file() else {}
    except ValueError:
        metadata = {}
    return str(metadata.get("license") or "other")


@dataclass(frozen=True, slots=True)
class BaseInfo:
    """A base as its Hub describes it.

    Attributes:
        config: What its `config.json` holds.
        parameters: All parameters, where the Hub counted them.
        download: Bytes of the wanted files that are not in the cache yet.
    """

    config: Mapping[str, Any]
    parameters: int | None
    download: int


def look_up(base: str, revision: str | None, patterns: Sequence[str]) -> BaseInfo | None:
    """What the Hub says of a base; None when it can not be asked, so that only the cache can tell.

    Args:
        base: Hub id.
        revision: Commit, branch or tag.
        patterns: Of the files that will be downloaded.

    Raises:
        InputError: An adapter, pickled or GGUF weights, or an architecture that needs code of the repository.
        EnvironmentLacks: Gated, and this user may not read it.
        HubError: The Hub knows no such repository, or does not show it to this user.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    with _closed_doors(base):
        try:
            info = hub().model_info(base, revision=revision, files_metadata=True)
        except (httpx2.TransportError, OfflineModeIsEnabled):
            return None
        except HfHubHTTPError as error:
            if error.response.status_code < 500:
                raise
            return None
        files = {file.rfilename: file.size or 0 for file in info.siblings or []}
        _check_kind(base, info, files)
        config = _config(base, str(info.sha))
    _check_architecture(base, config)
    wanted = {name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}
    missing = sum(files[name] for name in wanted if _in_cache(base, name, str(info.sha)) is None)
    return BaseInfo(config, info.safetensors.total if info.safetensors else None, missing)


def _in_cache(base: str, name: str, commit: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, name, revision=commit)
    return Path(found) if isinstance(found, str) else None


def _config(base: str, commit: str) -> Mapping[str, Any]:
    """The first file that is fetched, and so the first that a gate keeps back: the description is open to all.

    It does not go into the cache, where a snapshot with nothing else in it would pass for a whole one.
    """
    if cached := _in_cache(base, CONFIG, commit):
        return read_config(base, cached)
    with TemporaryDirectory() as folder:
        return read_config(base, Path(hub().hf_hub_download(base, CONFIG, revision=commit, local_dir=folder)))


def _check_kind(base: str, info: ModelInfo, files: Collection[str]) -> None:
    weights = [name for name in files if name.endswith(".safetensors") and not name.startswith("adapter_model")]
    if "adapter_config.json" in files and not weights:
        raise InputError(
            f"The base {base} is an adapter, not a model{_its_base(info)}.", "Give the base that it stands on."
        )
    if not weights:
        raise InputError(f"The base {base} {_other_weights(files)}.", "Choose a base with safetensors.")
    if CONFIG not in files:
        raise InputError(f"The base {base} has no config.json.", "Choose a model of the transformers library.")


def _its_base(info: ModelInfo) -> str:
    named = info.card_data.get("base_model") if info.card_data else None
    return f" (its base is {named})" if isinstance(named, str) else ""


def _other_weights(files: Collection[str]) -> str:
    if any(name.endswith(".gguf") for name in files):
        return "holds its weights as GGUF only, for inference in llama.cpp, which can not be trained"
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    if pickles:
        return f"holds its weights as pickles only ({pickles[0]}), which can run code of strangers when they are loaded"
    return "holds no weights"


def read_config(base: str, path: Path) -> Mapping[str, Any]:
    """What a base's `config.json` holds.

    Raises:
        InputError: No JSON object.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise InputError(f"The config.json of the base {base} can not be read.", "Choose another base.")
    return config


def _check_architecture(base: str, config: Mapping[str, Any]) -> None:
    """Code that a repository brings along is never run, so the library has to know the architecture itself."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(
            f"The base {base} is of the kind {kind!r}, which transformers {__version__} has no language model for.",
            "Choose another base, or a newer transformers.",
        )
    try:
        CONFIG_MAPPING[kind].from_dict(dict(config))
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise InputError(
            f"The config.json of the base {base} is not accepted by transformers {__version__}: {_reason(error)}",
            "Choose another base, or another version of transformers.",
        ) from error


def _reason(error: BaseException) -> str:
    """The last line: what comes before it is about the library's own classes."""
    return str(error).strip().split("\n")[-1].strip().removeprefix("ValueError: ").rstrip(".") + "."


@contextmanager
def _closed_doors(base: str) -> Iterator[None]:
    """Tell apart why a repository is not shown: gated, without a token or an accepted licence; missing or private."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise _gated(base, error, logged_in=get_token() is not None) from error
    except RepositoryNotFoundError as error:
        raise _not_shown(base, logged_in=get_token() is not None) from error


def _gated(base: str, error: RepositoryNotFoundError, *, logged_in: bool) -> EnvironmentLacks:
    page = f"{_endpoint()}/{base}"
    if not logged_in:
        return EnvironmentLacks(
            f"The base {base} is gated, and there is no token.",
            f"Accept its licence on {page}, then run `hf auth login` or give --token-file.",
        )
    said = without_secrets(error.server_message or "").split("\n")[0]
    if "awaiting" in said:
        return EnvironmentLacks(
            f"The base {base} is gated, and its owners have not answered your request yet.",
            f"Wait for them, look at {page}, or choose another --base.",
        )
    return EnvironmentLacks(
        f"The base {base} is gated, and the token's account has no access to it{f' ({said})' if said else ''}.",
        f"Accept its licence on {page} with that account; a fine-grained token must also allow gated repositories.",
    )


def _not_shown(base: str, *, logged_in: bool) -> HubError:
    reader = "this token may not read it" if logged_in else "there is no token"
    return HubError(
        f"The base {base} does not exist on {_endpoint()}, or it is private and {reader}.",
        "Check the id and --endpoint" + (", and whose token it is." if logged_in else ", or run `hf auth login`."),
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT)
