"""Fetch one file over HTTP, whole or not at all. Knows nothing of what it holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.hub_client import public_location

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 5
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
TIMEOUT = 30.0
"""Seconds to wait for a connection, and for each part of an answer."""
MOST_BYTES = 500_000_000


@contextmanager
def fetching() -> Iterator[httpx2.Client]:
    """A client that keeps its connections for several files.

    Raises:
        EnvironmentLacks: The proxy that the environment names is none.
    """
    import httpx2

    try:
        client = httpx2.Client(timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"})
    except (ValueError, httpx2.InvalidURL) as error:
        raise EnvironmentLacks(
            "The proxy that the environment names can not be used.", "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."
        ) from error
    with client:
        yield client


def fetch(client: httpx2.Client, url: str) -> bytes:
    """The body at a URL. It is tried five times, with growing pauses or those that the host asks for.

    Raises:
        EnvironmentLacks: The host can not be reached, or goes on answering 429, 5xx or bodies that are cut short.
        InputError: The host says that there is no such file, or refuses it.
    """
    problem = ""
    for attempt in range(ATTEMPTS):
        body, problem, pause = _try(client, url, FIRST_PAUSE * 2**attempt)
        if body is not None:
            return body
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause)
    raise EnvironmentLacks(
        f"{public_location(url)} could not be fetched: {problem} {ATTEMPTS} times.",
        "Check the network and try again later, or point --from at a folder that holds the files.",
    )


def _try(client: httpx2.Client, url: str, pause: float) -> tuple[bytes | None, str, float]:
    """The body, or what was wrong with it, and how long to wait before the next attempt, in seconds."""
    import httpx2

    try:
        with client.stream("GET", url) as response:
            status = response.status_code
            if status == 429 or status >= 500:
                return None, f"answered {status}", _asked_pause(response.headers.get("Retry-After", ""), pause)
            if status != 200:
                raise InputError(f"{public_location(url)} answered {status}.", "Check --from and --revision.")
            if not {"content-length", "transfer-encoding"} & set(response.headers):
                return None, "answered without saying how much follows", pause
            return _body(response, url), "", 0
    except httpx2.TimeoutException:
        return None, "no answer in time", pause
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
        raise InputError(f"{public_location(url)} is not a URL that can be fetched.", "Check --from.") from error
    except httpx2.RequestError as error:  # a body shorter than its Content-Length, or without its last chunk, is one
        reason = public_location(str(error)) if "://" in str(error) else str(error)
        return None, f"{reason.rstrip('.') or type(error).__name__},", pause


def _body(response: httpx2.Response, url: str) -> bytes:
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > MOST_BYTES:
            raise InputError(f"{public_location(url)} is longer than {MOST_BYTES:,} bytes.", "Check --from.")
    return bytes(body)


def _asked_pause(retry_after: str, otherwise: float) -> float:
    """Seconds that `Retry-After` asks for, as a number or as a date, at most `LONGEST_PAUSE`."""
    if retry_after.isdecimal():
        return min(float(retry_after), LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return otherwise
    seconds = (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0), LONGEST_PAUSE)
