"""Publications that were begun and not finished, so that the same command finishes them. Knows no repository's content.

A repository is filled while it is private. Whether to make it public afterwards can not be read from it: one that its
owner wants private looks the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolkit.core.folder import json_hash, read_json, unwritable, write_json
from toolkit.core.hub_client import DEFAULT_ENDPOINT, cache_home


@contextmanager
def publication(repo_id: str, repo_type: str, *, public: bool) -> Iterator[None]:
    """Note that a repository is being filled, and forget it when the block ends without an error.

    Args:
        public: That it is new, and to be made public once it is whole.

    Raises:
        InputError, EnvironmentLacks: The cache can not be written.
    """
    note = _note(repo_id, repo_type)
    if note is not None:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_json(note, {"repo_id": repo_id, "repo_type": repo_type, "public": public})
        except OSError as error:
            raise unwritable(note, error) from error
    yield
    if note is not None:
        note.unlink(missing_ok=True)


def begun(repo_id: str, repo_type: str) -> bool:
    """Whether a publication to this repository was begun here and not finished."""
    note = _note(repo_id, repo_type)
    return note is not None and note.is_file()


def becomes_public(repo_id: str, repo_type: str) -> bool:
    """Whether this repository is private only because its publication was not finished."""
    note = _note(repo_id, repo_type)
    return note is not None and note.is_file() and read_json(note).get("public") is True


def forget(repo_id: str, repo_type: str) -> None:
    """Forget an unfinished publication."""
    note = _note(repo_id, repo_type)
    if note is not None:
        note.unlink(missing_ok=True)


def _note(repo_id: str, repo_type: str) -> Path | None:
    """The note's file; None for a user without a home, for whom nothing can be remembered."""
    home, endpoint = cache_home(), os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT)
    return home / "publications" / f"{json_hash([endpoint, repo_type, repo_id])[:16]}.json" if home else None
