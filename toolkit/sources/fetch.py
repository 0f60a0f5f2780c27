"""Fetch a few files over HTTP, each whole or not at all. Knows nothing of what they hold."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from toolkit.errors import EnvironmentLacks, InputError

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
TIMEOUT = 30.0


def fetch_all(urls: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Bodies and their SHA-256, by the same names as the URLs. Each is tried five times, with growing pauses.

    Raises:
        EnvironmentLacks: The host can not be reached, or goes on answering 429, 5xx or too short bodies.
        InputError: The host says that there is no such file, or refuses it.
    """
    import httpx2

    with httpx2.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}) as client:
        bodies = {name: _fetch(client, url) for name, url in urls.items()}
    return bodies, {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}


def _fetch(client: httpx2.Client, url: str) -> bytes:
    problem = ""
    for attempt in range(ATTEMPTS):
        body, problem, pause = _try(client, url, FIRST_PAUSE * 2**attempt)
        if body is not None:
            return body
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause)
    raise EnvironmentLacks(
        f"{url} could not be fetched: {problem} {ATTEMPTS} times.",
        "Check the network and try again later, or point --from at a folder that holds the files.",
    )


def _try(client: httpx2.Client, url: str, pause: float) -> tuple[bytes | None, str, float]:
    """The body, or what was wrong with it, and how long to wait before the next attempt, in seconds."""
    import httpx2

    try:
        response = client.get(url)
    except httpx2.TimeoutException:
        return None, "no answer in time", pause
    except httpx2.TransportError as error:  # a body shorter than its Content-Length is one
        return None, f"{str(error).rstrip('.') or type(error).__name__},", pause
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise InputError(f"{url} is not a URL that can be fetched.", "Check --from.") from error
    if response.status_code == 429 or response.status_code >= 500:
        asked = response.headers.get("Retry-After", "")
        return (
            None,
            f"answered {response.status_code}",
            min(float(asked), LONGEST_PAUSE) if asked.isdecimal() else pause,
        )
    if response.status_code != 200:
        raise InputError(f"{url} answered {response.status_code}.", "Check --from and --revision.")
    return response.content, "", 0
