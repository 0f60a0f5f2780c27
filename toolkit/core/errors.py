"""What can go wrong, each with what to do about it. Knows nothing of the terminal: the command line prints it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class ToolkitError(Exception):
    """Something a user can mend: one sentence on what was found and where, one on what to do.

    `exit_code` is what the `pkt` process ends with.
    """

    exit_code = 1

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found} {remedy}")
        self.found = found
        self.remedy = remedy


class CheckFailed(ToolkitError):
    """A check ran and said no (`pkt validate`, `pkt verify`)."""

    exit_code = 1


class InputError(ToolkitError):
    """A path, option, recipe, table or folder that can not be used as it is."""

    exit_code = 2


class EnvironmentLacks(ToolkitError):
    """The machine or account lacks something: a GPU, memory, a library, a token, an accepted licence."""

    exit_code = 3


class HubError(ToolkitError):
    """The Hub refused, or could not be reached."""

    exit_code = 4


@contextmanager
def after_saying(words: str) -> Iterator[None]:
    """Put words before what an error raised inside the block says was found; its kind and remedy stay."""
    try:
        yield
    except ToolkitError as error:
        raise type(error)(f"{words} {error.found}", error.remedy) from error
