"""The templates of all cards, in one sandbox: the toolkit's, or for a model card a user's own in their place.

A template shows ready values and nothing else: it cannot reach Python, other files or the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from traceback import extract_tb
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader, PackageLoader, StrictUndefined, TemplateNotFound
from jinja2.sandbox import ImmutableSandboxedEnvironment

from toolkit.core.errors import InputError, first_line, library_errors
from toolkit.core.folder import json_hash, sha256_file

SUFFIX = ".jinja"
MODEL, DATASET = "toolkit.cards.model_templates", "toolkit.cards.dataset_templates"


def render(template: str, facts: Mapping[str, object], templates: Path | None = None, *, package: str = MODEL) -> str:
    """A template, by its file name in `package`, filled with facts; a fact that is missing is an error.

    Files in the folder `templates` replace those of the same names.

    Raises:
        InputError: A template of that folder has a mistake; the message names template, line and mistake.
    """
    if templates is None:
        return _environment(package, None).get_template(template).render(facts)
    remedy = "Correct the template, or take it out of the folder."
    try:
        with library_errors(str(templates), remedy):
            return _environment(package, templates).get_template(template).render(facts)
    except InputError as error:
        cause = error.__cause__ or error
        found = f"There is no template {cause.name}." if isinstance(cause, TemplateNotFound) else first_line(cause)
        # The innermost template that was at work.
        at = [frame for frame in extract_tb(cause.__traceback__) if frame.filename.endswith(SUFFIX)]
        place = f"{at[-1].filename}, line {at[-1].lineno}" if at else templates
        raise InputError(f"{place}: {found}", remedy) from cause


def check_templates(templates: Path) -> None:
    """Raise InputError unless this is a folder with at least one template that a model card has, all of them UTF-8."""
    known = set(shipped())
    if not templates.is_dir():
        raise InputError(f"There is no folder {templates}.", "Name a folder of card templates (*.jinja).")
    own = {name: read_text(templates / name) for name in _own(templates)}
    # Parts that a user added are mentioned by another template.
    mentioned = {name for text in own.values() for name in re.findall(r"""["']([^"']+)["']""", text)}
    names = ", ".join(sorted(known))
    if unknown := sorted(set(own) - known - mentioned):
        raise InputError(f"{templates / unknown[0]} is not the template of a part of a card.", f"There are {names}.")
    if not own:
        raise InputError(f"{templates} holds no template of a card.", f"Put one of these in it: {names}.")


def with_templates(facts: Mapping[str, Any], templates: Path | None) -> dict[str, Any]:
    """A manifest's facts, with a hash of the user's templates that the card beside it was made with, if any."""
    rest = {key: value for key, value in facts.items() if key != "card_templates"}
    if templates is None:
        return rest
    check_templates(templates)
    return {**rest, "card_templates": json_hash({name: sha256_file(templates / name) for name in _own(templates)})}


def shipped() -> list[str]:
    """File names of the toolkit's own templates of a model card."""
    return sorted(entry.name for entry in files(MODEL).iterdir() if entry.name.endswith(SUFFIX))


def _own(templates: Path) -> list[str]:
    return sorted(file.name for file in templates.iterdir() if file.name.endswith(SUFFIX) and file.is_file())


@cache
def _environment(package: str, templates: Path | None) -> ImmutableSandboxedEnvironment:
    shipped = PackageLoader(package, "")
    return ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([FileSystemLoader(templates), shipped]) if templates else shipped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def read_text(file: Path) -> str:
    """A card or a template as text. Raises InputError where it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text.", "Save it as UTF-8.") from error
