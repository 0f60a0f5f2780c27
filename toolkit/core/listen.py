"""What servers of this machine share: a listening socket, its address, the token of a request, a server in a thread."""

from __future__ import annotations

import base64
import errno
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError

if TYPE_CHECKING:
    import uvicorn


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: The address is taken, or is not one of this machine.
    """
    if port > 65535:
        raise InputError(f"Cannot listen on {host}:{port}: ports end at 65535.", "Choose another `port`.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there already" if taken else str(error.strerror).partition(" (")[0]
        # A port below 1024 is denied; a host of another machine is not found or not available.
        wrong = "`port`" if taken or error.errno == errno.EACCES else "`host`"
        raise InputError(f"Cannot listen on {host}:{port}: {reason}.", f"Choose another {wrong}.") from error
    # Connections inherit it. Without it, a body that follows its headers waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def is_loopback(host: str) -> bool:
    """Whether a host is a name of this machine that leads nowhere else."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def shown_token(authorization: str) -> str:
    """The token in an `Authorization` header, or empty; a browser shows it as the password, with any name."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    return value.strip() if scheme.lower() == "bearer" else ""


def address(listener: socket.socket) -> str:
    """The URL of a listening socket; of one that listens everywhere, the URL on this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


@contextmanager
def running(server: uvicorn.Server, port: int = 0) -> Iterator[str]:
    """Run a server on 127.0.0.1 in a thread for the length of a `with` block; yields its address.

    Raises:
        InputError: As `listen`.
    """
    with listen("127.0.0.1", port) as listener:
        # Connections queue in the listening socket from here on: nobody has to wait for the thread.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()
