"""A base by its Hub id: look it up, refuse what cannot be trained or does not fit, download it, hash it.

Every error that a user can mend comes before the weights are downloaded. Loads no weights.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from toolkit.core import Note, duration, ignore, size
from toolkit.core.errors import HubError, InputError, library_errors
from toolkit.core.folder import json_hash, sha256_file
from toolkit.core.hub_client import hub, hub_errors
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CARD, MANIFEST, TINY_BASE_ID
from toolkit.core.recipe import Recipe
from toolkit.model.kernels import training_seconds
from toolkit.model.memory import TYPICAL_TOKENS, check_disk, check_memory, chosen_quantization, size_of, this_machine

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from transformers import PretrainedConfig

# What takes long is said here; the command line shows it.
log = logging.getLogger("toolkit")
CONFIG = "config.json"
# Suffixes of the files that decide a model's answers, and that a base's hash covers.
HASHED = (".safetensors", ".json", ".model", ".jinja")
WEIGHTS_AND_TOKENIZER = ["*.safetensors", "*.json", "merges.txt", "*.model", "*.jinja", CARD]
TOKENIZER = [
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "*.model", "*.jinja"),
    # Without a class of its own in tokenizer_config.json, a tokenizer is that of the model's architecture.
    CONFIG,
]
# A Hub id and commit in a path: `hub/models--google--gemma-2b/snapshots/2ac5`.
IN_A_CACHE = re.compile(r"models--([\w.-]+?)--([\w.-]+)(?:[/\\]snapshots[/\\](\w+))?", re.ASCII)
SMALLER = "Free some space, set HF_HUB_CACHE to a folder with more, or choose a smaller `base`."
# Formats that run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class LocatedBase:
    """A base model on this machine: its Hub id, its commit (None when that is unknown) and the folder of its files."""

    id: str
    revision: str | None
    path: Path


def tiny_base_folder() -> Path:
    """The folder of the tiny base, in the installed package."""
    return Path(__file__).with_name("tiny") / "base"


def cache_folder() -> Path:
    """The folder that bases are downloaded to."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def locate_base(
    base: str,
    revision: str | None = None,
    *,
    quantization: str = "nf4",
    recipe: Recipe | None = None,
    note: Note = ignore,
) -> LocatedBase:
    """Find a base by Hub id, and download it when it is not cached; the tiny base comes with the toolkit.

    Args:
        base: Hub id.
        revision: Commit, branch or tag; a commit that is cached needs no network.
        quantization: How the base will be held, `nf4` or `none`.
        recipe: What it will be trained by; without it, only loading has to fit the memory.
        note: Called with warnings before the download.

    Raises:
        InputError: A folder (others could not load the adapter), no Hub id, or no base that can be trained: an adapter,
            pickled or GGUF weights, an architecture that transformers does not know.
        HubError: Unknown, private, or unreachable and not cached.
        EnvironmentLacks: Gated, or too large for this machine.
    """
    if base == TINY_BASE_ID:
        return LocatedBase(base, revision, tiny_base_folder())
    if Path(base).is_dir():
        raise InputError(
            f"The base {base} is a folder.",
            "Push it to a Hub (the local one will do) and give its id, so that others can load the adapter.",
        )
    with hub_errors(f"The base {base}"):
        found = None if _is_cached(base, revision) else look_up(base, revision)
        if found is not None:
            config, download = found
            check_disk(f"The download of the base {base}", download, cache_folder(), SMALLER)
            _check_machine(base, config, quantization, recipe, note)
            if download:
                log.info("Downloading the base %s: %s.", base, size(download))
        snapshot = _download(base, revision, WEIGHTS_AND_TOKENIZER)
    if found is None:
        if not _is_base(snapshot):
            raise HubError(
                f"The Hub cannot be reached, and only a part of the base {base} is in the cache.", "Check the network."
            )
        _check_machine(base, read_config(base, snapshot / CONFIG), quantization, recipe, note)
    return LocatedBase(base, snapshot.name, snapshot)


def locate_base_to_load(
    base: str, revision: str | None = None, *, quantization: str = "none", weights: bool = True
) -> LocatedBase:
    """A base to load an adapter on: by Hub id (`owner/name@revision` for one of its revisions), or else a folder.

    A folder is taken as peft does, relative to the working directory. It bears its own name, or the id of the
    repository whose copy in a cache it is, so that no path of this machine is published. Without `weights`, only its
    configuration and tokenizer are downloaded.

    Raises:
        InputError, HubError, EnvironmentLacks: As `locate_base`; InputError also for a path of another machine.
    """
    folder, is_path = Path(base), _is_path(base)
    # What names a commit is on the Hub, whatever lies in the working directory: `locate_base` refuses such a folder.
    if base != TINY_BASE_ID and folder.is_dir() and (revision is None or is_path):
        if not _is_base(folder):
            raise InputError(f"The folder {base} holds no model ({CONFIG} and safetensors).", "Choose another `base`.")
        repo_id, _, at = (_repository_of(str(folder.resolve())) or folder.resolve().name).partition("@")
        if weights:
            _check_machine(repo_id, read_config(repo_id, folder / CONFIG), quantization, None, ignore)
        return LocatedBase(repo_id, at or None, folder)
    if is_path:
        likely = _repository_of(base)
        such_as = f', likely `base="{likely}"`' if likely else ""
        raise InputError(f"There is no folder {base} on this machine.", f"Give its Hub id or its folder{such_as}.")
    repo_id, _, at = base.partition("@")
    if weights or repo_id == TINY_BASE_ID:
        return locate_base(repo_id, at or revision, quantization=quantization)
    with hub_errors(f"The base {repo_id}"):
        small = _download(repo_id, at or revision, TOKENIZER)
    return LocatedBase(repo_id, small.name, small)


def _is_path(base: str) -> bool:
    return re.fullmatch(r"[\w.-]*\w(/[\w.-]*\w)?(@.+)?", base, re.ASCII) is None or base.startswith(".")


def _repository_of(location: str) -> str | None:
    """The Hub id in the path of a cache, with the revision if it is there."""
    found = IN_A_CACHE.search(location)
    return f"{found[1]}/{found[2]}" + (f"@{found[3]}" if found[3] else "") if found else None


def _check_machine(base: str, config: PretrainedConfig, quantization: str, recipe: Recipe | None, note: Note) -> None:
    with library_errors(f"The model of the base {base} cannot be built", "Choose another base."):
        needs = size_of(config)
    machine, published = this_machine(recipe.training.compute if recipe else "auto"), published_quantization(config)
    asked = chosen_quantization(needs, recipe, machine) if recipe else quantization
    if recipe is not None and published not in (None, asked):
        note(f"The base {base} is quantised where it is published ({published}), and is trained like that.")
    # Whatever the kind, it takes no less than 4 bits a weight.
    check_memory(base, needs, machine, "nf4" if published else asked, recipe)
    if recipe is not None and machine.gpu is None:
        # The way back is a second conversation of about the same length.
        tokens = 1000 * TYPICAL_TOKENS * (2 if recipe.training.way_back else 1)
        seconds = training_seconds(needs.parameters, tokens, machine.compute)
        note(f"There is no GPU: training on 1,000 examples takes this CPU about {duration(seconds)}.")


def _download(base: str, revision: str | None, patterns: list[str]) -> Path:
    return Path(hub().snapshot_download(base, revision=revision, allow_patterns=patterns))


def _is_cached(base: str, revision: str | None) -> bool:
    """Whether a commit is in the cache whole: it cannot have changed on the Hub."""
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


def _is_base(snapshot: Path) -> bool:
    return (snapshot / CONFIG).is_file() and any(snapshot.glob("*.safetensors"))


# What the Hub says of it.


def look_up(base: str, revision: str | None) -> tuple[PretrainedConfig, int] | None:
    """A base's configuration, and the bytes of its wanted files that are not in the cache yet.

    None when the Hub cannot be asked, so that only the cache can tell.

    Raises:
        InputError: An adapter, pickled or GGUF weights, or an architecture that needs code of the repository.
        Whatever `huggingface_hub` raises: Gated, private or missing (`hub_errors` translates).
    """
    info = info_of(base, revision)
    if info is None:
        return None
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    _check_kind(base, info, files)
    config = _config(base, str(info.sha))
    wanted = {name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in WEIGHTS_AND_TOKENIZER)}
    return config, sum(files[name] for name in wanted if cached_file(base, name, str(info.sha)) is None)


def info_of(repo_id: str, revision: str | None) -> ModelInfo | None:
    """What the Hub says of a model or an adapter; None when it cannot be asked. Raises what `huggingface_hub` does."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return hub().model_info(repo_id, revision=revision, files_metadata=True)
    except (httpx2.TransportError, OfflineModeIsEnabled):
        return None
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return None


def cached_file(base: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a base, where it is on this machine already; the Hub is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(base, name, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _config(base: str, commit: str) -> PretrainedConfig:
    """Read config.json first: on a gated repository this download fails before any large one.

    It does not go into the cache, where a snapshot with nothing else in it would pass for a whole one.
    """
    if cached := cached_file(base, CONFIG, commit):
        return read_config(base, cached)
    with TemporaryDirectory() as folder:
        return read_config(base, Path(hub().hf_hub_download(base, CONFIG, revision=commit, local_dir=folder)))


def _check_kind(base: str, info: ModelInfo, files: Collection[str]) -> None:
    weights = [name for name in files if name.endswith(".safetensors") and name != ADAPTER_WEIGHTS]
    if ADAPTER_CONFIG in files and not weights:
        named = info.card_data.get("base_model") if info.card_data else None
        its_base = f" (its base is {named})" if isinstance(named, str) else ""
        raise InputError(f"The base {base} is an adapter, not a model{its_base}.", "Give the base that it stands on.")
    if not weights:
        raise InputError(f"The base {base} {_other_weights(files)}.", "Choose a base with safetensors.")
    if CONFIG not in files:
        raise InputError(f"The base {base} has no config.json.", "Choose a model of the transformers library.")


def _other_weights(files: Collection[str]) -> str:
    if any(name.endswith(".gguf") for name in files):
        return "holds its weights as GGUF only, for inference in llama.cpp, which cannot be trained"
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    if pickles:
        return f"holds its weights as pickles only ({pickles[0]}), which can run code of strangers when they are loaded"
    return "holds no weights"


def read_config(base: str, path: Path) -> PretrainedConfig:
    """The configuration in a base's `config.json`.

    Raises:
        InputError: No JSON object, or an architecture or settings that transformers does not know.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise InputError(f"The config.json of the base {base} cannot be read.", "Choose another base.")
    return config_of(base, values)


def config_of(base: str, values: Mapping[str, object]) -> PretrainedConfig:
    """The configuration with these values. Code in a repository is never run: transformers must know the architecture.

    Raises:
        InputError: It does not, or refuses the values.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, __version__
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = values.get("model_type")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise InputError(
            f"The base {base} is of the kind {kind!r}, which transformers {__version__} has no language model for.",
            "Choose another base, or a newer transformers.",
        )
    refused = f"The config.json of the base {base} is not accepted by transformers {__version__}"
    with library_errors(refused, "Choose another base, or another version of transformers."):
        try:
            return CONFIG_MAPPING[kind].from_dict(dict(values))
        except StrictDataclassError as error:
            # Its own first line names only the validator.
            raise error.__cause__ or error from None


def published_quantization(config: PretrainedConfig) -> str | None:
    """How a base is quantised where it is published: `nf4`, `fp4`, `int8` (bitsandbytes) or another library's name.

    None for one that is not.
    """
    quantised = getattr(config, "quantization_config", None)
    if not quantised:
        return None
    values = quantised if isinstance(quantised, dict) else quantised.to_dict()
    if values.get("load_in_4bit"):
        return str(values.get("bnb_4bit_quant_type", "fp4"))
    return "int8" if values.get("load_in_8bit") else str(values.get("quant_method") or "an unnamed kind")


# Its files.


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
                f"Delete {base.path.parents[1]} and run again: it is then downloaded anew.",
            )
    return json_hash(hashes)


def how_to_mend(base: LocatedBase) -> str:
    """What to do about a base that cannot be loaded: its copy in the cache may be damaged."""
    if base.path.parent.name != "snapshots":
        return "Choose another base."
    return f"Choose another base; or, if this copy of it is damaged, delete {base.path.parents[1]} and run again."


def base_license(base: LocatedBase) -> str:
    """Licence id in the base's card, or `other` when it states none that can be read."""
    from huggingface_hub import metadata_load
    from yaml import YAMLError

    card = base.path / CARD
    try:
        metadata = metadata_load(card) if card.is_file() else None
    except (ValueError, YAMLError):
        metadata = None
    return str((metadata or {}).get("license") or "other")
