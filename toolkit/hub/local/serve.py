"""Run the Hub: in a thread for the length of a `with` block, or in the foreground until interrupted."""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from toolkit.core.hub_client import read_token
from toolkit.core.listen import address, listen
from toolkit.hub.local.app import create_app
from toolkit.hub.local.store import Store

TOKEN = "token"  # the file in the root


@contextmanager
def running_hub(
    root: Path,
    *,
    port: int = 0,
    tokens: Mapping[str, str] | None = None,
    owner_token: str | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> Iterator[str]:
    """Serve the Hub in `root` on 127.0.0.1 and yield its endpoint.

    Args:
        port: 0 takes a free one.
        tokens: Maps tokens to users; each may write in the namespace of that name.
        owner_token: The token of `demo`, who may write everywhere. Without it and `tokens`, everybody is `demo`.
        wrap: Puts something before the application, as tests do that make requests fail.

    Raises:
        ToolkitError: The folder or the port cannot be used.
    """
    server = _server(wrap(create_app(root, tokens=tokens, owner_token=owner_token)))
    listener = listen("127.0.0.1", port)
    # Connections queue in the listening socket from here on: nobody has to wait for the thread.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield address(listener)
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
) -> None:
    """Serve the Hub in `root` until SIGINT or SIGTERM, which is raised again after a clean shutdown.

    Args:
        on_ready: Called with the endpoint, as soon as it can be used, and with the file that holds the token.
        fill: Called with the endpoint of the same Hub on loopback, and with the token's file, to put into the Hub what
            shall be in it from the start: after the address is taken, before it is served.
        token_file: Holds the token of the Hub's owner; by default one is made and kept in `root`.

    Raises:
        ToolkitError: The folder, the address or the token file cannot be used.
    """
    with listen(host, port) as listener:
        token_file = token_file or kept_token(root)
        token = read_token(token_file)
        with running_hub(root, owner_token=token) as endpoint:
            fill(endpoint, token_file)
        server = _server(create_app(root, owner_token=token))
        on_ready(address(listener), token_file)
        server.run(sockets=[listener])


def kept_token(root: Path) -> Path:
    """The file in `root` that holds the Hub's token, made if it is not there. Only its owner can read it.

    Raises:
        ToolkitError: The file holds no token, or cannot be read or written.
    """
    # The form of the public Hub's tokens, which `without_secrets` keeps out of logs and errors.
    token = f"hf_{secrets.token_hex(17)}\n"
    file = Store(root).kept(TOKEN, token.encode("ascii"))
    read_token(file)
    return file


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
    )
    return uvicorn.Server(config)
