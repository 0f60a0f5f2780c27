"""Run the Hub: in a thread for the length of a `with` block, or in the foreground until interrupted."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from toolkit.core.errors import InputError
from toolkit.core.hub_client import read_token
from toolkit.hub.local.app import Faults, create_app
from toolkit.hub.local.body import Limits
from toolkit.hub.local.connection import Connection
from toolkit.hub.local.faults import Fault
from toolkit.hub.local.tokens import RootError as RootError
from toolkit.hub.local.tokens import kept_token, usable

CONNECTIONS = 512  # at once; more are answered with 503, after which clients try again


class AddressError(InputError):
    """The host and port can not be listened on, mostly because another program does."""


@contextmanager
def running_hub(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tokens: Mapping[str, str] | None = None,
    owner_token: str | None = None,
    faults: Faults | Sequence[Fault | str] | None = None,
    limits: Limits | None = None,
) -> Iterator[str]:
    """Serve the Hub in `root` and yield its endpoint. Port 0 takes a free one.

    `tokens`, `owner_token`, `faults` and `limits` as in `create_app`. Raises `RootError` and `AddressError`.
    """
    limits = limits or Limits()
    with usable(root):
        app = create_app(root, tokens=tokens, owner_token=owner_token, faults=faults, limits=limits)
    server = _server(app, limits)
    listener = _listen(host, port)
    # Connections queue in the listening socket from here on: nobody has to wait for the thread.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield _url(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def serve_forever(
    root: Path,
    host: str,
    port: int,
    on_ready: Callable[[str, Path], None],
    fill: Callable[[str, Path], None] = lambda *_: None,
    *,
    token_file: Path | None = None,
    faults: Sequence[Fault | str] = (),
    limits: Limits | None = None,
) -> None:
    """Serve the Hub in `root` until SIGINT or SIGTERM, which is raised again after a clean shutdown.

    Args:
        on_ready: Gets the endpoint as soon as it can be used, and the file that holds the token.
        fill: Gets the endpoint of the same Hub on loopback, and the token's file, for what shall be in it from the
            start: after the address is taken, before it is served, and without the faults.
        token_file: Holds the token of the Hub's owner; by default one is made and kept in `root`.
        faults, limits: As in `create_app`.

    Raises:
        RootError, AddressError: The folder or the address can not be used.
        InputError: The token file or a fault can not be used.
    """
    limits = limits or Limits()
    with _listen(host, port) as listener:
        with usable(root):
            token_file = token_file or kept_token(root)
            token = read_token(token_file)
            app = create_app(root, owner_token=token, faults=faults, limits=limits)
        with running_hub(root, owner_token=token) as endpoint:
            fill(endpoint, token_file)
        server = _server(app, limits)
        on_ready(_url(listener), token_file)
        server.run(sockets=[listener])


def _server(app: ASGIApp, limits: Limits) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(Connection, patience=limits.patience),  # type: ignore[arg-type]  # called like the class
            h11_max_incomplete_event_size=limits.headers,
            limit_concurrency=CONNECTIONS,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=5,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    if port > 65535:
        raise AddressError(f"{host}:{port} can not be listened on: ports end at 65535.", "Choose another --port.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "another program listens there already" if taken else str(error.strerror).partition(" (")[0]
        # A port below 1024 is denied, a host that is not this machine's is not found or not available.
        wrong = "--port" if taken or error.errno == errno.EACCES else "--host"
        raise AddressError(f"{host}:{port} can not be listened on: {reason}.", f"Choose another {wrong}.") from error
    # Each connection inherits it. asyncio sets it only on sockets made otherwise, and without it an answer whose
    # body follows its headers waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
