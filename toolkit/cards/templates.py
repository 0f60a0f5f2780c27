"""The templates of a card: those of the toolkit, or a user's own in their place. Knows nothing of what a card says.

A template is given ready values and may do no more than show them: it can not reach Python, files or the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined, TemplateError, TemplateNotFound, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from toolkit.core.errors import InputError
from toolkit.core.folder import json_hash, sha256_file

SUFFIX = ".jinja"
# What an expression of a template can end in: a name that is unknown, a sum of words, a share of nothing.
RAISED = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


def render(template: str, facts: Mapping[str, Any], templates: Path | None = None) -> str:
    """A template of `model_cards/` filled with facts; a fact that is not there is an error.

    Args:
        template: Its file name.
        facts: What it may show.
        templates: A folder whose files of the same names stand in for the toolkit's.

    Raises:
        InputError: A template of that folder has a mistake; it names template, line and what is wrong.
    """
    if templates is None:
        return _shipped_environment().get_template(template).render(facts)
    try:
        return _environment(templates).get_template(template).render(facts)
    except RAISED as error:
        raise _mistake(error, templates) from error


def check_templates(templates: Path) -> None:
    """Raise InputError unless this is a folder with at least one template that a card has."""
    known = shipped()
    if not templates.is_dir():
        raise InputError(f"There is no folder {templates}.", "Name a folder of card templates (*.jinja).")
    own = _own(templates)
    if unknown := sorted(set(own) - set(known) - _included(templates)):
        raise InputError(
            f"{templates / unknown[0]} is the template of no part of a card.", f"There are {', '.join(sorted(known))}."
        )
    if not own:
        raise InputError(
            f"{templates} holds no template of a card.", f"Put one of these in it: {', '.join(sorted(known))}."
        )


def with_templates(facts: Mapping[str, Any], templates: Path | None) -> dict[str, Any]:
    """A manifest's facts that say with which templates of its own, if any, the card beside it was made."""
    rest = {key: value for key, value in facts.items() if key != "card_templates"}
    if templates is None:
        return rest
    check_templates(templates)
    return {**rest, "card_templates": json_hash({name: sha256_file(templates / name) for name in _own(templates)})}


def shipped() -> list[str]:
    """File names of the templates that come with the toolkit."""
    return sorted(
        entry.name for entry in files("toolkit.cards.model_templates").iterdir() if entry.name.endswith(SUFFIX)
    )


def _own(templates: Path) -> list[str]:
    return sorted(file.name for file in templates.iterdir() if file.name.endswith(SUFFIX) and file.is_file())


def _included(templates: Path) -> set[str]:
    """Names that the folder's own templates mention: parts that a user added."""
    texts = [(templates / name).read_text(encoding="utf-8", errors="replace") for name in _own(templates)]
    return {name for name in _own(templates) if any(f'"{name}"' in text or f"'{name}'" in text for text in texts)}


@cache
def _shipped_environment() -> ImmutableSandboxedEnvironment:
    """The toolkit's own templates, compiled once: unlike a user's, they do not change while a process runs."""
    return _environment(None)


def _environment(templates: Path | None) -> ImmutableSandboxedEnvironment:
    def load(name: str) -> tuple[str, str, None] | None:
        if templates is not None and name in _own(templates):
            return _text(templates / name), name, None
        return (_text(files("toolkit.cards.model_templates") / name), name, None) if name in shipped() else None

    return ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _text(file: Any) -> str:
    try:
        return str(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text.", "Save it as UTF-8.") from error


def _mistake(error: Exception, templates: Path) -> InputError:
    """A template's mistake in one line: which template, which line, what."""
    if isinstance(error, TemplateSyntaxError):
        name, line, what = error.name, error.lineno, error.message
    elif isinstance(error, TemplateNotFound):
        (name, line), what = _place(error.__traceback__), f"there is no template {error.name}"
    else:
        (name, line), what = _place(error.__traceback__), " ".join(str(error).split()) or type(error).__name__
    where = f"{templates / name}, line {line}" if name else str(templates)
    return InputError(f"{where}: {what}.", "Correct the template, or take it out of the folder.")


def _place(traceback: TracebackType | None) -> tuple[str | None, int]:
    """The innermost line of a template among the frames of an error."""
    name, line = None, 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.endswith(SUFFIX):
            name, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return name, line
