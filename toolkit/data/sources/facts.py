"""What every source tells about itself, and what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.core.errors import InputError
from toolkit.core.recipe import DatasetSettings, SourceSettings

LANGUAGES = ("en", "ko")


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Where records come from.

    Attributes:
        name: `corpus`, `pokeapi`, `hub` or `table`.
        location: Folder or file name, URL or Hub id as it may be published: no path of this machine, no credentials.
        revision: Commit or version, None where the source has none.
        license: SPDX id of the texts, or `other`.
        content_hash: Hash of the files that are read: the same content has the same hash wherever it lies.
        notes: What was found or decided on the way that a user may want to know, such as an encoding that was detected.
    """

    name: str
    location: str
    revision: str | None
    license: str
    content_hash: str
    notes: tuple[str, ...] = ()


def wanted_languages(settings: DatasetSettings) -> tuple[str, ...]:
    """The languages of `description_language`, in the order given.

    Raises:
        InputError: Empty, or a language that is not `en` or `ko`.
    """
    wanted = tuple(dict.fromkeys(part.strip() for part in settings.description_language.split(",")))
    if not all(language in LANGUAGES for language in wanted):
        raise InputError(
            f"The description language {settings.description_language!r} is not known.", "Choose en, ko or en,ko."
        )
    return wanted


def refuse_other_settings(source: SourceSettings, *used: str) -> None:
    """Raise InputError when the settings say something that this source has no use for.

    Args:
        used: The settings that it does use, beside its name.
    """
    given = source.model_dump(exclude={"name", *used}, exclude_none=True)
    if given:
        options = ["--from" if key == "location" else f"--{key.replace('_', '-')}" for key in given]
        raise InputError(
            f"The source {source.name} has no use for {', '.join(options)}.",
            "Leave it out, or choose another --source.",
        )
