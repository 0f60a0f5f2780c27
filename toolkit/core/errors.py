"""What can go wrong, each with what to do about it, and the one border at which errors of libraries are translated."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
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

    def __reduce__(self) -> tuple[type[ToolkitError], tuple[str, str]]:
        return type(self), (self.found, self.remedy)


class CheckFailed(ToolkitError):
    """A check ran and said no (`pkt validate`, `pkt verify`)."""

    exit_code = 1


class InputError(ToolkitError):
    """A path, option, recipe, table or folder that cannot be used as it is."""

    exit_code = 2


class EnvironmentLacks(ToolkitError):
    """The machine or account lacks something: a GPU, memory, a library, a token, an accepted licence."""

    exit_code = 3


class HubError(ToolkitError):
    """The Hub refused, or could not be reached."""

    exit_code = 4


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant: one that begins with it or ends with it after a dot, or else has most of
    its letters; None where none is near."""
    known = sorted(known, key=len)
    begun = [name for name in known if name.startswith(word) or name.endswith(f".{word}")]
    return next(iter(begun or difflib.get_close_matches(word, known, n=1)), None)


@contextmanager
def after_saying(words: str) -> Iterator[None]:
    """Put words before what an error raised inside the block says was found; its kind and remedy stay."""
    try:
        yield
    except ToolkitError as error:
        raise type(error)(f"{words} {error.found}", error.remedy) from error


@contextmanager
def library_errors(found: str, remedy: str, kind: type[ToolkitError] = InputError) -> Iterator[None]:
    """Translate whatever a library raises inside the block into one line: `found`, then the library's own first line.

    Errors of this toolkit pass as they are, and so does a mistake in the toolkit's own code, which is a bug to report.
    Keep the block to the library's call.

    Raises:
        ToolkitError: Of the given kind, with the library's error as its cause.
    """
    try:
        yield
    except ToolkitError:
        raise
    # Libraries raise errors of any class on damaged files: this is the border to all of them.
    except Exception as error:
        if _is_our_mistake(error):
            raise
        raise kind(f"{found}: {first_line(error)}", remedy) from error


def first_line(error: BaseException) -> str:
    """The first line of what a library says, as a sentence; the name of its class where it says nothing."""
    said = str(error).strip().split("\n")[0].rstrip(".:")
    return f"{said or type(error).__name__}."


def _is_our_mistake(error: Exception) -> bool:
    """Whether a line of the toolkit itself names what does not exist, rather than a library that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    ours = trace is not None and trace.tb_frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]
    return ours and isinstance(error, (AttributeError, NameError, TypeError, AssertionError))
