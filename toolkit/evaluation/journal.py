"""Results of many small pieces of work, kept in a file from which an interrupted run continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from toolkit.core.folder import unwritable


class Journal:
    """Results of finished pieces, by name. A file of other work (another `key`) is overwritten.

    Attributes:
        found: How many pieces an earlier run had finished.
    """

    def __init__(self, file: Path, key: str, *, restart: bool = False) -> None:
        self.file = file
        self._done: dict[str, Any] = {}
        try:
            whole = 0 if restart else self._read(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open: IO[str] = file.open("r+" if whole else "w", encoding="utf-8")
            # The line at which an earlier run was killed may be half a line.
            self._open.truncate(whole)
            self._open.seek(whole)
            if not whole:
                self._append({"key": key})
        except OSError as error:
            raise unwritable(file, error) from error
        self.found = len(self._done)

    def _read(self, key: str) -> int:
        """Read the file's results, and return how many of its bytes are whole lines of this work."""
        if not self.file.is_file():
            return 0
        whole = 0
        for line in self.file.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or (whole == 0 and entry.get("key") != key):
                break
            if "piece" in entry:
                self._done[str(entry["piece"])] = entry.get("result")
            whole += len(line)
        return whole

    def once(self, piece: str, work: Callable[[], Any]) -> Any:
        """The result of a piece, a JSON value: the kept one, or that of the work, which is kept then.

        Raises:
            ToolkitError: The file can not be written.
        """
        if piece not in self._done:
            result = work()
            try:
                self._append({"piece": piece, "result": result})
            except OSError as error:
                raise unwritable(self.file, error) from error
            self._done[piece] = result
        return self._done[piece]

    def _append(self, entry: dict[str, Any]) -> None:
        self._open.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._open.flush()

    def close(self) -> None:
        """Keep the finished pieces for another run; without any, remove the file."""
        self._open.close()
        if not self._done:
            self.file.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file, after the last piece."""
        self._open.close()
        self.file.unlink(missing_ok=True)
