"""Serve the page of an adapter on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import uvicorn

from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.listen import address, listen
from toolkit.hub.space import app as page


def check_installed() -> None:
    """Raise EnvironmentLacks unless gradio is there."""
    if importlib.util.find_spec("gradio") is None:
        raise EnvironmentLacks("The app needs gradio, which is not installed.", "Install it with `pip install gradio`.")


def about(adapter: Path) -> page.About:
    """The title, examples and figures of an adapter folder; InputError when they are damaged."""
    try:
        return page.read_about(adapter, adapter.resolve().name)
    # A wrong shape of these JSON files fails in a line of ours, which `library_errors` takes for a bug.
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"The samples or figures in {adapter} are damaged.", "Run `pkt evaluate` again.") from error


def serve(
    about: page.About,
    answer: Callable[[str, int], page.Answer],
    host: str,
    port: int,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM; `on_ready` is called with its address. Port 0 takes a free one.

    Raises:
        InputError: It cannot listen on the address.
        EnvironmentLacks: gradio is not installed.
    """
    check_installed()
    with listen(host, port) as listener:
        server = make_server(about, answer)
        on_ready(address(listener))
        server.run(sockets=[listener])


def make_server(about: page.About, answer: Callable[[str, int], page.Answer]) -> uvicorn.Server:
    """A server of the page that does not run yet."""
    import gradio
    from fastapi import FastAPI

    def mounted() -> FastAPI:
        # Not `launch`, which asks itself for its own page through the proxy of the environment.
        plain = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        return gradio.mount_gradio_app(plain, page.build(about, answer), path="/", ssr_mode=False, **page.page_style())

    # uvicorn calls the factory inside its loop; without one, gradio opens a loop for each of its locks and closes none.
    config = uvicorn.Config(mounted, factory=True, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    return uvicorn.Server(config)
