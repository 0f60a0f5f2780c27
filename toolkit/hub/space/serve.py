"""Serve the page of an adapter on this machine. Knows the page and how to serve it, not how answers are found."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.listen import address, listen
from toolkit.hub.space import app as page


def check_installed() -> None:
    """Raise EnvironmentLacks unless gradio is there."""
    if importlib.util.find_spec("gradio") is None:
        raise EnvironmentLacks("The app needs gradio, which is not installed.", "Install it with `pip install gradio`.")


def about(adapter: Path) -> page.About:
    """What the page says of an adapter folder.

    Raises:
        InputError: Its samples or figures are damaged.
    """
    try:
        return page.read_about(adapter, adapter.resolve().name)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"The samples or figures in {adapter} are damaged.", "Run `pkt evaluate` again.") from error


def serve(
    about: page.About,
    answer: Callable[[str, int], page.Answer],
    host: str,
    port: int,
    on_ready: Callable[[str], None],
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        about: What the page says of the adapter.
        answer: As `build` of the page takes it.
        host: Address to listen on.
        port: 0 takes a free one.
        on_ready: Told the page's address as soon as it can be used.

    Raises:
        InputError: The address can not be listened on.
        EnvironmentLacks: gradio is not installed.
    """
    check_installed()
    with listen(host, port) as listener:
        server = make_server(about, answer)
        on_ready(address(listener))
        server.run(sockets=[listener])


def make_server(about: page.About, answer: Callable[[str, int], page.Answer]) -> Any:
    """The page as a uvicorn server that does not run yet."""
    import uvicorn

    blocks = page.build(about, answer)
    import gradio
    from fastapi import FastAPI

    # Not `launch`, which asks itself for its own page through whatever proxy the environment names.
    served = gradio.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None), blocks, path="/", ssr_mode=False, **page.look()
    )
    return uvicorn.Server(uvicorn.Config(served, log_level="warning", access_log=False, timeout_graceful_shutdown=2))
