"""Which Hub is talked to, with whose token, and its clients' errors as ours. Knows no repository.

`huggingface_hub` reads its environment once, when it is imported: `use_hub` comes before any such import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import EnvironmentLacks, HubError, InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DEFAULT_ENDPOINT = "https://huggingface.co"
SECRET = re.compile(r"hf_[A-Za-z0-9]{6,}|(?i:bearer\s+)\S+|(?<=://)[^/@\s]+@")


def use_hub(endpoint: str | None = None, token_file: Path | None = None, cache: Path | None = None) -> None:
    """Choose the Hub and the token for this process.

    A Hub other than the public one gets a cache of its own (caches know repositories, not endpoints) and no Xet
    transfers (a client with Xet never asks the server whether it has it).

    Args:
        endpoint: Address of the Hub; by default what `HF_ENDPOINT` says, or the public Hub.
        token_file: A text file that holds only the token; by default what `huggingface_hub` itself uses.
        cache: Where a Hub other than the public one is cached; by default a folder named after its address.

    Raises:
        InputError: The endpoint is no URL, or the token file can not be read.
    """
    if endpoint is not None:
        os.environ["HF_ENDPOINT"] = endpoint
    chosen = os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
    if not re.match(r"https?://[^/\s]+", chosen):
        raise InputError(
            f"The endpoint {without_secrets(chosen)!r} is not a URL.", "Give one like http://127.0.0.1:8765."
        )
    os.environ["HF_ENDPOINT"] = chosen
    if chosen != DEFAULT_ENDPOINT:
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", chosen.split("://", 1)[1].rpartition("@")[2])
        cache = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pkt" / "hubs" / slug
        os.environ.setdefault("HF_HUB_CACHE", str(cache / "hub"))
        os.environ.setdefault("HF_DATASETS_CACHE", str(cache / "datasets"))
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    if token_file is not None:
        os.environ["HF_TOKEN"] = _read_token(token_file)


def hub() -> HfApi:
    """The client of the chosen Hub."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))


def _read_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The token file {path} can not be read.", "Name a text file that holds only the token."
        ) from error
    if not token or re.search(r"\s", token):
        raise InputError(f"The token file {path} holds no single token.", "It should hold the token and nothing else.")
    return token


def without_secrets(text: str) -> str:
    """The text with access tokens and credentials in URLs replaced by `***`."""
    token = os.environ.get("HF_TOKEN")
    if token:
        text = text.replace(token, "***")
    return SECRET.sub("***", text)


@contextmanager
def hub_errors(subject: str) -> Iterator[None]:
    """Turn what the Hub's clients raise inside the block into one sentence about `subject` and one on what to do.

    Raises:
        HubError: Not found, refused, conflict, unreachable, or a server error.
        EnvironmentLacks: A gated repository, or no valid token.
    """
    import httpx2
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT)
    try:
        yield
    except errors.GatedRepoError as error:
        raise EnvironmentLacks(
            f"{subject} is gated.",
            f"Accept its licence on {endpoint}/{subject.split()[-1]} while logged in, then run `hf auth login`.",
        ) from error
    except errors.RepositoryNotFoundError as error:
        if _status(error) == 401 and os.environ.get("HF_TOKEN") is None:
            raise HubError(
                f"{subject} does not exist on {endpoint}, or needs a login.", "Check the id, or run `hf auth login`."
            ) from error
        raise HubError(f"{subject} does not exist on {endpoint}.", "Check the id, and --endpoint.") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{subject} has no such revision on {endpoint}.", "Check --revision.") from error
    except errors.HfHubHTTPError as error:
        raise _refusal(subject, endpoint, error) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, httpx2.HTTPError, ConnectionError) as error:
        raise HubError(
            f"{endpoint} can not be reached, and {subject} is not in the cache.", "Check the network and --endpoint."
        ) from error
    except errors.HFValidationError as error:
        raise InputError(f"{subject} is not a Hub id.", "Write it as owner/name.") from error


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _refusal(subject: str, endpoint: str, error: Exception) -> HubError | EnvironmentLacks:
    status = _status(error)
    said = without_secrets(str(getattr(error, "server_message", None) or "")).split("\n")[0]
    detail = f" ({said})" if said else ""
    if status == 401:
        return EnvironmentLacks(
            f"{endpoint} wants a valid token for {subject}{detail}.", "Run `hf auth login`, or give --token-file."
        )
    if status == 403:
        return HubError(f"{endpoint} does not allow this for {subject}{detail}.", "Use a token that may write to it.")
    if status in (409, 412):
        return HubError(
            f"{subject} was changed by somebody else meanwhile{detail}.", "Look at it, then run the command again."
        )
    if status is not None and (status >= 500 or status == 429):
        return HubError(f"{endpoint} answered {status} for {subject}{detail}.", "Try again in a few minutes.")
    return HubError(f"{endpoint} refused {subject} with status {status}{detail}.", "Check the id and your rights.")
