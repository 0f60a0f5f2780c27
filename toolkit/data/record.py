"""Record: one description of one creature, as every source yields it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Record:
    """One description of one creature.

    Attributes:
        key: Stable id of the creature, such as `pokemon/25`; sources that mean the same creature use the same key.
        names: Language code (`en`, `ko`, ...) to the creature's name in that language. At least one.
        family: Id shared by all creatures that evolve into each other, such as `pokemon-family/10`.
        description: The text as the source has it, not yet cleaned or masked.
        language: Language code of `description`.
        source: Name of the source: `corpus`, `pokeapi`, `hub` or `table`.
        source_ref: Revision and place in the source, enough to find the text again.
        license: SPDX id of the text, or `other`.
        parallel: What texts of one creature share that say the same in different languages; empty for texts that
            stand alone.
        attributes: What else the source knows (generation, types, ...); values that JSON can hold.
    """

    key: str
    names: Mapping[str, str]
    family: str
    description: str
    language: str
    source: str
    source_ref: str
    license: str
    parallel: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
