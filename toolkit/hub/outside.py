"""What a stranger reads of a repository that is public: asked once more without a token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from toolkit.core.errors import CheckFailed
from toolkit.core.hub_client import hub
from toolkit.hub.remote import Remote, id_like, page_of

CARD = "README.md"


def unread_by_strangers(remote: Remote, revision: str, files: Mapping[str, Path]) -> str | None:
    """Ask for the card and the largest file without a token, and compare what the Hub says of them.

    Returns:
        What is to be said when a stranger does not get them, as on a Hub that wants a token from everybody; None when
        they are read.

    Raises:
        CheckFailed: A stranger gets other files than those that were sent.
    """
    import httpx2
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    largest = max(files, key=lambda name: files[name].stat().st_size)
    page = page_of(remote)
    try:
        wrong = [
            name
            for name in dict.fromkeys((CARD, largest))
            if name in files and not _is_read(remote, revision, name, files[name])
        ]
    except GatedRepoError:
        return f"{page} is public and gated: who wants its files has to ask for access there."
    except HfHubHTTPError as error:
        return (
            f"{page} is public, but without a token the Hub answers {error.response.status_code} for its files: either "
            "this Hub wants a token from everybody, or it needs a while."
        )
    except (httpx2.HTTPError, ConnectionError) as error:
        return f"{page} is public, but could not be read once more without a token ({type(error).__name__})."
    if wrong:
        raise CheckFailed(
            f"{remote.subject} at {revision[:12]} has other files without a token than with one: {', '.join(wrong)}.",
            "Run the command again; if it stays so, something between here and the Hub changes them.",
        )
    return None


def _is_read(remote: Remote, revision: str, name: str, path: Path) -> bool:
    """Whether a file is answered without a token, under the id that it has here."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(remote.repo_id, name, repo_type=remote.repo_type, revision=revision, endpoint=hub().endpoint)
    told = get_hf_file_metadata(url, token=False).etag
    # A Hub behind a proxy may name its files otherwise.
    if told is None or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", told):
        return True
    return told == id_like(path, told)
