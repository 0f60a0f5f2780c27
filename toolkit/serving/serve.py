"""Load adapters and answer until a signal: what runs and waits is finished first."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import uvicorn

from toolkit.core.errors import InputError
from toolkit.core.folder import unwritable
from toolkit.core.hub_client import public_location, read_token
from toolkit.core.listen import address, is_loopback, listen
from toolkit.model import naming
from toolkit.serving.app import Served, create_app

WARM_UP = "A small fox whose tail burns with a blue flame."


class _Server(uvicorn.Server):
    """Ends well at a first signal, and at once at a second."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True


def serve(
    adapters: Sequence[str | Path],
    candidates: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    base: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: Path | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Answer over HTTP with adapters of one base, until SIGINT or SIGTERM; requests that came before are finished.

    Args:
        adapters: Folders or Hub ids; requests name one by its folder's name or its id.
        candidates: Known names, and `revision` and `base`, as `open_adapter` takes them, for all adapters.
        host: A name or address of this machine; any but loopback needs a key.
        port: 0 takes a free one.
        api_key_file: Holds the key that requests must show; made, for its owner only, where it is not there.
        on_ready: Called with the address when requests are answered.

    Raises:
        InputError: Two adapters have one name, the address or the key cannot be used; or as `open_adapters`.
        HubError, EnvironmentLacks: As `open_adapters`.
    """
    names = [Path(each).resolve().name if Path(each).is_dir() else str(each) for each in adapters]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"Two adapters are called {min(twice)}.", "Rename the folder of one.")
    if api_key_file is None and not is_loopback(host):
        remedy = "Name a file for one as `api_key_file`; it is made if it is not there."
        raise InputError(f"At {host} other machines could ask without a key.", remedy)
    with listen(host, port) as listener, ThreadPoolExecutor(1, "compute") as compute:
        api_key = None if api_key_file is None else _kept_key(api_key_file)
        opened = naming.open_adapters(adapters, candidates, revision=revision, base=base)
        served = []
        for name, answerer in zip(names, opened, strict=True):
            # The first answer takes long.
            compute.submit(naming.name, answerer, WARM_UP, 1).result()
            located = base or answerer.model.peft_config["default"].base_model_name_or_path
            served.append(Served(name, public_location(str(located)), answerer))
        app = create_app(served, compute, api_key)
        on_ready(address(listener))
        _Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none")).run([listener])


def _kept_key(file: Path) -> str:
    """The key in a file, which is made if it is not there; only its owner can read it then."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as made:
            made.write(f"pkt_{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise unwritable(file, error) from error
    return read_token(file)
