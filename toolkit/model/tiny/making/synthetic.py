"""Synthetic creatures for the tiny base model: attributes, descriptions and names from a seeded generator."""

from toolkit.model.tiny.making.synthetic_creature import Creature, Part, facts, sample_creature
from toolkit.model.tiny.making.synthetic_describe import REGISTERS, describe
from toolkit.model.tiny.making.synthetic_names import invent_korean_name, invent_name

__all__ = [
    "REGISTERS",
    "Creature",
    "Part",
    "describe",
    "facts",
    "invent_korean_name",
    "invent_name",
    "sample_creature",
]
