"""The chosen Hub and its token, downloads from it, and one translator for what its clients raise.

`huggingface_hub` reads its environment once, when it is imported: call `use_hub` before.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from toolkit.core.errors import EnvironmentLacks, HubError, InputError, ToolkitError, after_saying

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError

DEFAULT_ENDPOINT = "https://huggingface.co"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
LONGEST_ID = 96
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
        InputError: The endpoint is no URL, or the token file cannot be read.
    """
    if endpoint is not None:
        os.environ["HF_ENDPOINT"] = endpoint
    chosen = os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
    if not _is_url(chosen):
        raise InputError(
            f"The endpoint {without_secrets(chosen)!r} is not a URL.", "Give one like http://127.0.0.1:8765."
        )
    os.environ["HF_ENDPOINT"] = chosen
    if chosen != DEFAULT_ENDPOINT:
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", chosen.split("://", 1)[1].rpartition("@")[2])
        cache = cache or cache_home() / "hubs" / slug
        os.environ.setdefault("HF_HUB_CACHE", str(cache / "hub"))
        os.environ.setdefault("HF_DATASETS_CACHE", str(cache / "datasets"))
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    if token_file is not None:
        os.environ["HF_TOKEN"] = read_token(token_file)


def cache_home() -> Path:
    """`PKT_CACHE`, else `pkt` in the user's cache folder; for a user without a home in the temporary folder."""
    if own := os.environ.get("PKT_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # By the XDG specification a relative path counts as none.
        return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "pkt"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "pkt"


def _is_url(text: str) -> bool:
    """Whether it is an http(s) address of a host, with no query behind it."""
    try:
        parts, port = urlsplit(text), urlsplit(text).port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not re.search(r"[\s?#]", text)


def endpoint() -> str:
    """Address of the chosen Hub."""
    return os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT)


def hub() -> HfApi:
    """The client of the chosen Hub."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint())


def is_hub_id(name: str) -> bool:
    """Whether a name is `owner/name`, and so neither a bare name nor a path of this machine."""
    return len(name) <= LONGEST_ID and HUB_ID.fullmatch(name) is not None


def locate_folder(
    name: str,
    kind: str,
    remedy: str,
    *,
    repo_type: str = "model",
    revision: str | None = None,
    patterns: list[str] | None = None,
) -> Path:
    """A folder on this machine, or else the downloaded snapshot of a Hub repository.

    For the errors, `kind` says what it holds (`dataset`, `adapter`), and `remedy` what to do where it is neither. Only
    files that match the `patterns` are downloaded, by default all.

    Raises:
        InputError: It is neither a folder nor a Hub id.
        HubError: The Hub has no such repository or revision, or cannot be reached.
        EnvironmentLacks: The repository is gated.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_id(name):
        raise InputError(f"There is no {kind} folder {name}.", remedy)
    with after_saying(f"There is no folder {name}, and"), hub_errors(f"the {kind} {name}"):
        return Path(hub().snapshot_download(name, repo_type=repo_type, revision=revision, allow_patterns=patterns))


def read_token(path: Path) -> str:
    """The token in a file. Raises `InputError` when it holds none, or cannot be read."""
    remedy = "Name a text file that holds only the token."
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The token file {path} cannot be read.", remedy) from error
    if not token or re.search(r"\s", token):
        raise InputError(f"The token file {path} holds no single token.", remedy)
    return token


def without_secrets(text: str) -> str:
    """The text with access tokens and credentials in URLs replaced by `***`."""
    if token := os.environ.get("HF_TOKEN"):
        text = text.replace(token, "***")
    return SECRET.sub("***", text)


def public_location(text: str) -> str:
    """A source's location as it may be published: no credentials, no path of this machine.

    A URL loses credentials, query and fragment, a path all but its last part; a Hub id (owner/name) stays as it is.
    """
    url = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]+)://(?:[^/?#]*@)?([^?#]*).*", text, re.DOTALL)
    if url and url[1].lower() != "file":
        return without_secrets(f"{url[1]}://{url[2]}")
    if is_hub_id(text):
        return text
    return re.split(r"[/\\]", text.rstrip("/\\"))[-1]


@contextmanager
def hub_errors(subject: str) -> Iterator[None]:
    """Turn what the Hub's clients raise inside the block into one sentence about `subject` and one on what to do.

    Args:
        subject: What is asked for, its id last: `The dataset owner/name`.

    Raises:
        HubError: Not found, refused, conflict, unreachable, a server error, or an answer that is none.
        EnvironmentLacks: A gated repository, or no valid token.
    """
    import httpx2

    try:
        yield
    # The clients wrap what the Hub answered in plain errors of Python. Those without an answer behind them pass.
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        translated = _translated(subject, _answer_of_the_hub(error))
        if translated is None:
            raise
        raise translated from error


def _answer_of_the_hub(error: BaseException) -> BaseException:
    """The answer with a status that an error was raised from, or else the lost connection, or else the error itself."""
    import httpx2

    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    answers = [cause for cause in chain if isinstance(cause, httpx2.HTTPError) and _status(cause) is not None]
    lost = [cause for cause in chain if isinstance(cause, (httpx2.HTTPError, ConnectionError))]
    return (answers or lost or chain)[0]


def _translated(subject: str, error: BaseException) -> ToolkitError | None:
    import httpx2
    from huggingface_hub import errors

    address, within = endpoint(), subject[:1].lower() + subject[1:]
    match error:
        case errors.GatedRepoError():
            return _gated(subject, within, error)
        case errors.RepositoryNotFoundError() if _status(error) == 401 and os.environ.get("HF_TOKEN") is None:
            remedy = "Check the id, or run `hf auth login`."
            return HubError(f"{subject} does not exist on {address}, or needs a login.", remedy)
        case errors.RepositoryNotFoundError():
            return HubError(f"{subject} does not exist on {address}.", "Check the id and the `endpoint`.")
        case errors.RevisionNotFoundError():
            return HubError(f"{subject} has no such revision on {address}.", "Check the `revision`.")
        case _ if isinstance(error, errors.HfHubHTTPError) or _status(error) is not None:
            return _refusal(subject, address, error)
        case errors.LocalEntryNotFoundError() | httpx2.HTTPError() | ConnectionError():
            remedy = "Check the network and the `endpoint`."
            return HubError(f"{address} cannot be reached, and {within} is not in the cache.", remedy)
        case errors.HFValidationError():
            return InputError(f"{subject} is not a Hub id.", "Write it as owner/name.")
        case json.JSONDecodeError():
            remedy = "Check the `endpoint`, and whether the network requires a login of its own."
            return HubError(f"{address} answered for {subject} with something that is not JSON.", remedy)
        case OSError() if str(error).startswith("Consistency check failed"):
            return HubError(f"{subject} came incomplete from {address}.", "Run the command again.")
    return None


def _gated(subject: str, within: str, error: GatedRepoError) -> EnvironmentLacks:
    repo_type = "dataset" if within.startswith("the dataset ") else "model"
    repo_id = subject.split()[-1]
    if error.repo_id not in (None, repo_id):
        # What loads an adapter loads its base too.
        repo_type, repo_id = error.repo_type or "model", str(error.repo_id)
        subject = f"The {repo_type} {repo_id}, which {within} needs,"
    page = f"{endpoint()}/{'' if repo_type == 'model' else f'{repo_type}s/'}{repo_id}"
    if "awaiting" in (error.server_message or ""):
        unanswered = f"{subject} is gated, and its owners have not answered your request yet."
        return EnvironmentLacks(unanswered, f"Wait for them; see {page}.")
    # Without a token logging in may help; with one its account needs access.
    how = "with the account of your token" if _status(error) == 403 else "while logged in, then run `hf auth login`"
    return EnvironmentLacks(f"{subject} is gated.", f"Accept its licence on {page} {how}.")


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _refusal(subject: str, address: str, error: BaseException) -> HubError | EnvironmentLacks:
    status = _status(error) or 0
    said = without_secrets(str(getattr(error, "server_message", None) or "")).split("\n")[0]
    detail = f" ({said})" if said else ""
    if status == 401:
        remedy = "Run `hf auth login`, or give a `token_file`."
        return EnvironmentLacks(f"{address} requires a valid token for {subject}{detail}.", remedy)
    if status == 403:
        return HubError(f"{address} does not allow this for {subject}{detail}.", "Use a token that may write to it.")
    if status in (409, 412):
        remedy = "Look at it, then run the command again."
        return HubError(f"{subject} was changed by somebody else meanwhile{detail}.", remedy)
    if status >= 500 or status == 429:
        return HubError(f"{address} answered {status} for {subject}{detail}.", "Try again in a few minutes.")
    return HubError(f"{address} refused {subject} with status {status}{detail}.", "Check the id and your rights.")
