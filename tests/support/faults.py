"""A local Hub that fails on purpose: requests are refused, dropped, cut or lost, to see what its clients do.

A fault is written `[METHOD ][PATH ]N:WHAT`. N counts the requests of that method whose path matches (`*` is anything)
from the start on; `N-M` and `N+` are several. WHAT is a status, `drop` (the connection is closed, and nothing is done),
`lose` (it is done, and the connection is closed without an answer) or `truncate` (it is closed in the middle of it).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.hub.local.serve import running_hub

FAULT = re.compile(r"(?:([A-Z]+) )?(?:([/*]\S*) )?(\d+)(?:-(\d+)|(\+))?:(drop|lose|truncate|[45]\d\d)")


@contextmanager
def faulty_hub(
    root: Path, faults: Sequence[str] | Callable[[Request], Response | None], **options: Any
) -> Iterator[str]:
    """A running local Hub with faults, or with a function that answers a request in the Hub's place, or gives None."""

    def wrap(app: ASGIApp) -> ASGIApp:
        return intercepted(app, faults) if callable(faults) else Faulty(app, faults)

    with running_hub(root, wrap=wrap, **options) as url:
        yield url


def intercepted(app: ASGIApp, answer: Callable[[Request], Response | None]) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await (answer(Request(scope, receive)) or app)(scope, receive, send)

    return wrapped


class Faulty:
    """An application with faults. It counts the requests from its start, for each fault those that match."""

    def __init__(self, app: ASGIApp, faults: Sequence[str]) -> None:
        self._app = app
        self._faults = [FAULT.fullmatch(each) for each in faults]
        assert all(self._faults), faults
        self._counts = [0] * len(self._faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        what = self._due(scope["method"], scope["path"])
        if what is None:
            await self._app(scope, receive, send)
        elif what.isdigit():
            message = f"Refused by a fault: {what}"
            await JSONResponse({"error": message}, int(what), {"X-Error-Message": message})(scope, receive, send)
        else:
            if what != "drop":
                await self._app(scope, receive, Cut(send, whole=what == "lose").send)
            await hang_up(receive)

    def _due(self, method: str, path: str) -> str | None:
        """The first fault that is due for this request."""
        due = None
        for number, fault in enumerate(self._faults):
            wanted, pattern, first, last, more, what = fault.groups()
            if wanted in (None, method) and fnmatchcase(path, pattern or "*"):
                self._counts[number] += 1
                end = self._counts[number] if more else int(last or first)
                due = due or (what if int(first) <= self._counts[number] <= end else None)
        return due


class Cut:
    """Sends nothing (`whole`), or the headers and half of the first piece of the body."""

    def __init__(self, send: Send, *, whole: bool) -> None:
        self._send = send
        self._closed = whole

    async def send(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.response.body":
            self._closed = True
            body = message.get("body", b"")
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await self._send(message)


async def hang_up(receive: Receive) -> None:
    """Close the connection and wait until the server has noticed: it would else answer in our place."""
    receive.__self__.transport.close()  # of uvicorn's own request
    while (await receive())["type"] != "http.disconnect":
        pass
