"""Bodies of requests: how long they may be, and how slow. A client that keeps to neither is cut off."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from toolkit.core.errors import InputError
from toolkit.hub.local.refusal import RefusedError

_STRANGERS_BODY = 2**20  # bytes: who shows no token only asks for paths
_DRAINED = 2**30  # of a body that is too long, so that its sender comes to read the answer


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        file: Bytes of a large file, which goes to the disk as it comes.
        memory: Bytes of any other body, a commit with its small files among them.
        line: Bytes of one line of a commit.
        headers: Bytes of the address and the headers.
        patience: Seconds without a byte of the headers or the body.
        pace: Bytes a second that a body must have on average after that time.
    """

    file: int = 50 * 10**9
    memory: int = 128 * 2**20
    line: int = 32 * 2**20
    headers: int = 32 * 2**10
    patience: float = 30.0
    pace: int = 1024


def parse_size(text: str) -> int:
    """Bytes, from a number with or without KB, MB, GB or TB behind it (decimal, as the Hub counts).

    Raises:
        InputError: It is written otherwise, or is nothing.
    """
    found = re.fullmatch(r"(\d{1,15})\s*(?:([KMGT])?B)?", text.strip(), re.IGNORECASE)
    if found is None or int(found[1]) == 0:
        raise InputError(f"{text!r} is not a size.", "Write a number of bytes, or one like 200MB or 5GB.")
    factor: int = 1000 ** " KMGT".index((found[2] or " ").upper())
    return int(found[1]) * factor


async def read_body(request: Request, limits: Limits, *, stranger: bool) -> bytes:
    """The whole body. Raises `RefusedError`: 413 for one that is too long, 408 for one that is too slow."""
    most = min(limits.memory, limits.file, _STRANGERS_BODY if stranger else limits.memory)
    parts, size = [], 0
    async for chunk in chunks(request, limits):
        size += len(chunk)
        if size <= most:
            parts.append(chunk)
        elif size > most + _DRAINED:
            break
    if size > most:
        raise too_long("The body", size, most)
    return b"".join(parts)


async def chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `RefusedError` (408) when it comes too slowly."""
    stream, started, size = request.stream(), time.monotonic(), 0
    while True:
        try:
            async with asyncio.timeout(limits.patience):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _closing(408, f"The body stopped for {limits.patience:g} seconds") from None
        size += len(chunk)
        spent = time.monotonic() - started
        if spent > limits.patience and size < limits.pace * (spent - limits.patience):
            raise _closing(408, f"The body comes with less than {limits.pace} bytes a second")
        yield chunk


def check_headers(request: Request, limits: Limits) -> None:
    """Raises `RefusedError` (431). The web server itself counts only what comes in pieces."""
    size = len(request.scope["raw_path"]) + len(request.scope["query_string"])
    size += sum(len(name) + len(value) for name, value in request.scope["headers"])
    if size > limits.headers:
        raise _closing(431, f"The headers have {size:,} bytes: this Hub takes {limits.headers:,} at most")


def too_long(what: str, size: int, most: int) -> RefusedError:
    """The refusal of something of more than `most` bytes."""
    return _closing(413, f"{what} has {size:,} bytes or more: this Hub takes {most:,} at most")


def _closing(status: int, message: str) -> RefusedError:
    """A refusal after which the connection can not be used again: the rest of a body may still be on its way."""
    refused = RefusedError(status, message)
    refused.headers["Connection"] = "close"
    return refused
