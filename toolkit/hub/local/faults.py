"""Faults on purpose: a Hub that refuses, delays, cuts or drops chosen requests, to see what its clients do."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.core.errors import InputError
from toolkit.hub.local.call import answer

Action = Literal["refuse", "drop", "lose", "truncate", "delay"]

_FAULT = re.compile(
    r"(?:(?P<method>[A-Z]+) )?(?:(?P<path>[/*]\S*) )?(?P<first>\d+)(?P<more>-(?P<last>\d+)|\+)?:"
    r"(?P<action>drop|lose|truncate|delay=(?P<seconds>\d+(?:\.\d+)?)|(?P<status>[45]\d\d))"
)


@dataclass(frozen=True)
class Fault:
    """What happens to the requests number `first` to `last` (None: all that follow) of those that match.

    Attributes:
        method: Only requests of this method count; None: of any.
        path: Only requests whose path matches this pattern count, `*` being anything.
        action: `refuse` answers with `status`; `drop` closes the connection before anything is done, `lose` after it is
            done but before it is answered; `truncate` closes it in the middle of the answer; `delay` waits `seconds`.
    """

    first: int
    last: int | None
    action: Action
    status: int = 503
    seconds: float = 0.0
    method: str | None = None
    path: str = "*"

    def matches(self, method: str, path: str) -> bool:
        return self.method in (None, method) and fnmatchcase(path, self.path)


def parse_fault(text: str) -> Fault:
    """A fault as written on the command line: `[METHOD ][PATH ]N[-M|+]:WHAT`.

    WHAT is a status (400 to 599), `drop`, `lose`, `truncate` or `delay=SECONDS`: `3:503`, `POST /api/* 1-2:lose`.

    Raises:
        InputError: It is written otherwise.
    """
    found = _FAULT.fullmatch(text)
    if found is None or int(found["first"]) == 0:
        raise InputError(
            f"{text!r} is not a fault.",
            "Write [METHOD ][/PATH ]N:WHAT, where WHAT is a status from 400 to 599, drop, lose, truncate or "
            "delay=SECONDS, and N may be N-M or N+: '3:503', 'POST /api/*/commit/* 1:lose'.",
        )
    first = int(found["first"])
    last = None if found["more"] == "+" else int(found["last"] or first)
    words: dict[str, Action] = {"drop": "drop", "lose": "lose", "truncate": "truncate", "delay": "delay"}
    action = words.get(found["action"].partition("=")[0], "refuse")
    status, seconds = int(found["status"] or 503), float(found["seconds"] or 0)
    return Fault(first, last, action, status, seconds, found["method"], found["path"] or "*")


class Faulty:
    """An application, with faults. It counts the requests from its start, for each fault those that match."""

    def __init__(self, app: ASGIApp, faults: Sequence[Fault | str]) -> None:
        """Raises `InputError` for a fault that is not written as one."""
        self._app = app
        self._faults = [parse_fault(each) if isinstance(each, str) else each for each in faults]
        self._counts = [0] * len(self._faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._fault_of(scope) if scope["type"] == "http" else None
        if fault is not None and fault.action == "refuse":
            message = f"Refused by the fault {fault.first}:{fault.status}"
            await answer({"error": message}, fault.status, {"X-Error-Message": message})(scope, receive, send)
            return
        if fault is not None and fault.action == "drop":
            await _hang_up(scope, receive)
            return
        if fault is not None and fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        if fault is not None and fault.action in ("lose", "truncate"):
            await self._app(scope, receive, _Cut(send, whole=fault.action == "lose").send)
            await _hang_up(scope, receive)
            return
        await self._app(scope, receive, send)

    def _fault_of(self, scope: Scope) -> Fault | None:
        """The first fault that is due for this request."""
        due = None
        for number, fault in enumerate(self._faults):
            if fault.matches(scope["method"], scope["path"]):
                self._counts[number] += 1
                in_time = fault.first <= self._counts[number] <= (fault.last or self._counts[number])
                due = due or (fault if in_time else None)
        return due


class _Cut:
    """Sends nothing (`whole`), or the headers and half of the first piece of the body."""

    def __init__(self, send: Send, *, whole: bool) -> None:
        self._send = send
        self._closed = whole

    async def send(self, message: Message) -> None:
        if self._closed:
            return
        if message["type"] == "http.response.body":
            self._closed = True
            message = {**message, "body": message.get("body", b"")[: len(message.get("body", b"")) // 2]}
            message["more_body"] = True
        await self._send(message)


async def _hang_up(scope: Scope, receive: Receive) -> None:
    """Close the connection and wait until the server has noticed: it would else answer in our place."""
    scope["state"]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass
