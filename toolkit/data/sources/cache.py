"""Files of one immutable revision, kept between runs. Knows nothing of where they come from or what they hold.

`hashes.json` names the size and SHA-256 of every file that is whole, and is written after each of them: a process
killed at any moment leaves files that are whole and files that are not yet named. Processes that fill the same folder
write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolkit.core.folder import write_json
from toolkit.core.hub_client import cache_home

HASHES = "hashes.json"
STALE_SECONDS = 3600.0


def revision_folder(kind: str, location: str, revision: str) -> Path | None:
    """The folder for one revision at one location. Two locations never share one, and no credentials are in its name.

    Args:
        kind: What is cached: `pokeapi`.
        location: A URL.
        revision: A name that can not change its meaning: a commit.
    """
    home = cache_home()
    if home is None:
        return None
    address = re.sub(r"(?<=://)[^/?#]*@", "", location)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"^\w+://|[?#].*", "", address)).strip("-.")
    mark = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return home / kind / f"{slug[:80]}-{mark}" / revision


def cached(folder: Path, name: str) -> tuple[bytes | None, bool]:
    """A file's bytes when it is whole, and whether it is there but damaged."""
    known = _hashes(folder).get(name)
    if known is None:
        return None, False
    try:
        body = (folder / name).read_bytes()
    except OSError:
        return None, True
    return (body, False) if known == _measured(body) else (None, True)


def keep(folder: Path, name: str, whole: Mapping[str, bytes]) -> None:
    """Put a file into the cache, whole or not at all.

    Args:
        name: The file's name.
        whole: This file, and all others that are known to be whole: when two processes write `hashes.json` at the same
            time, whoever is last names all files.

    Raises:
        OSError: The folder can not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    fresh = folder / f".{name}.{os.getpid()}.tmp"
    try:
        fresh.write_bytes(whole[name])
        fresh.replace(folder / name)
    finally:
        fresh.unlink(missing_ok=True)
    write_json(folder / HASHES, _hashes(folder) | {name: _measured(body) for name, body in whole.items()})


def _sweep(folder: Path) -> None:
    """Remove what killed processes left; another process may be doing the same."""
    for left in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


def _hashes(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _measured(body: bytes) -> dict[str, object]:
    return {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
