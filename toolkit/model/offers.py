"""What a Hub's repository offers as a base, before anything large of it is downloaded. Knows no machine."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.core.hub_client import DEFAULT_ENDPOINT, hub, without_secrets

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo
    from huggingface_hub.errors import RepositoryNotFoundError

CONFIG = "config.json"
# Formats that run code when they are loaded.
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Offer:
    """A base as its Hub describes it.

    Attributes:
        config: What its `config.json` holds.
        parameters: All parameters, where the Hub counted them.
        download: Bytes of the wanted files that are not in the cache yet.
    """

    config: Mapping[str, Any]
    parameters: int | None
    download: int


def look_up(base: str, revision: str | None, patterns: Sequence[str]) -> Offer | None:
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
    return Offer(config, info.safetensors.total if info.safetensors else None, missing)


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


# What is no base.


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


# Who may not read it.


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
