"""Contents, addressed by their sha256. Each is written elsewhere and renamed: a blob is whole or absent."""

import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import BinaryIO

from toolkit.hub.local.names import SHA256
from toolkit.hub.local.objects import AddLfsFile, FileEntry, git_blob_id, lfs_pointer
from toolkit.hub.local.refusal import malformed

_ABANDONED_SECONDS = 24 * 3600


class Incoming:
    """The folder of files being written, on the same file system as the places they are renamed to."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` when the folder can not be made or written to."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        probe = self.fresh()
        probe.touch()
        probe.unlink()

    def fresh(self) -> Path:
        """A path that nothing has used yet."""
        return self._folder / secrets.token_hex(16)

    def write(self, target: Path, content: bytes) -> None:
        """Make or replace `target` in one instant."""
        draft = self.fresh()
        with draft.open("wb") as file:
            file.write(content)
            to_disk(file)
        draft.replace(target)

    def _remove_abandoned(self) -> None:
        """What a killed process left behind; young files may belong to one that still runs."""
        for path in list(self._folder.iterdir()):
            if path.stat().st_mtime > time.time() - _ABANDONED_SECONDS:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def to_disk(file: BinaryIO) -> None:
    """Wait until what was written can survive a power cut: a rename may reach the disk before a content does."""
    file.flush()
    os.fsync(file.fileno())


def blob_path(folder: Path, sha256: str) -> Path:
    """Where a repository's folder keeps a content, or would keep it. Raises `RefusedError` (400)."""
    if not SHA256.fullmatch(sha256):
        raise malformed(f"Not a sha256: {sha256!r}")
    return folder / "blobs" / sha256


def keep(incoming: Incoming, folder: Path, content: bytes, commit_id: str) -> FileEntry:
    """Store the content of a regular file that `commit_id` adds."""
    sha256 = hashlib.sha256(content).hexdigest()
    target = blob_path(folder, sha256)
    if not target.exists():
        incoming.write(target, content)
    return FileEntry(sha256, len(content), git_blob_id(content), False, commit_id)


def find_uploaded(folder: Path, wanted: AddLfsFile, commit_id: str) -> FileEntry:
    """The entry of an LFS file that `commit_id` adds. Raises `RefusedError` (400) unless its content is there."""
    blob = blob_path(folder, wanted.sha256)
    if not blob.exists():
        raise malformed(f"{wanted.path!r} points to an LFS object that was not uploaded: {wanted.sha256}")
    size = blob.stat().st_size
    if wanted.size not in (None, size):
        raise malformed(f"{wanted.path!r} has {size} bytes, not {wanted.size}")
    return FileEntry(wanted.sha256, size, git_blob_id(lfs_pointer(wanted.sha256, size)), True, commit_id)
