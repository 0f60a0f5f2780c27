"""Run the Hub: in a thread for the length of a `with` block, or in the foreground until interrupted."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from toolkit.errors import InputError
from toolkit.local_hub.app import Faults, create_app


class RootError(InputError):
    """The root folder can not be made or written to."""


class AddressError(InputError):
    """The host and port can not be listened on, mostly because another program does."""


@contextmanager
def running_hub(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tokens: dict[str, str] | None = None,
    faults: Faults | None = None,
) -> Iterator[str]:
    """Serve the Hub in `root` and yield its endpoint. Port 0 takes a free one.

    `tokens` and `faults` as in `create_app`. Raises `RootError` and `AddressError`.
    """
    server = _server(_app(root, tokens, faults))
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
    on_ready: Callable[[str], None],
    fill: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the Hub in `root` until SIGINT or SIGTERM, which is raised again after a clean shutdown.

    `fill` gets the endpoint of the same Hub on loopback, for what shall be in it from the start: after the address is
    taken, before it is served. `on_ready` gets the endpoint as soon as it can be used. Raises `RootError` and
    `AddressError`.
    """
    with _listen(host, port) as listener:
        with running_hub(root) as endpoint:
            fill(endpoint)
        server = _server(_app(root))
        on_ready(_url(listener))
        server.run(sockets=[listener])


def _server(app: Starlette) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
    )


def _app(root: Path, tokens: dict[str, str] | None = None, faults: Faults | None = None) -> Starlette:
    try:
        return create_app(root, tokens=tokens, faults=faults)
    except OSError as error:
        raise RootError(f"{root} can not hold a Hub: {error.strerror}.", "Choose another folder.") from error


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
