"""The token of a Hub's owner: made once, and kept beside the repositories for nobody but them to read."""

import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.core.errors import InputError
from toolkit.core.hub_client import read_token
from toolkit.hub.local.store import Store

TOKEN = "token"
_ALPHABET = string.ascii_letters + string.digits


class RootError(InputError):
    """The root folder can not be made or written to."""


@contextmanager
def usable(root: Path) -> Iterator[None]:
    """Turn what the file system refuses inside the block into a `RootError`."""
    try:
        yield
    except OSError as error:
        raise RootError(f"{root} can not hold a Hub: {error.strerror}.", "Choose another folder.") from error


def kept_token(root: Path) -> Path:
    """The file in `root` that holds the Hub's token, made if it is not there. Its owner alone can read it.

    Raises:
        InputError: The file holds no token, or can not be read.
        RootError: It can not be written.
    """
    with usable(root):
        file = _made(Store(root), root / TOKEN)
        file.chmod(0o600)
    read_token(file)
    return file


def _made(store: Store, file: Path) -> Path:
    with store.locked():
        if not file.exists():
            draft = store.incoming.fresh()
            draft.touch(0o600)
            # The form of the public Hub's tokens, which is known to keep out of logs and errors.
            draft.write_text("hf_" + "".join(secrets.choice(_ALPHABET) for _ in range(34)) + "\n", "ascii")
            draft.replace(file)
    return file
