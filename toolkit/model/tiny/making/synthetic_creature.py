"""Samples the attributes of an invented creature, kinds that belong together more often than not."""

from dataclasses import dataclass
from random import Random

from toolkit.model.tiny.making.synthetic_words import Entry, lexicon, weighted

SIZES = {"tiny": 2.0, "small": 4.0, "medium": 3.0, "tall": 2.0, "huge": 1.0}


@dataclass(frozen=True)
class Part:
    """A distinguishing part with a shape, a colour or both."""

    name: str
    shape: str
    colour: str


@dataclass(frozen=True)
class Creature:
    """The attributes of one invented creature, as keys of the word lists."""

    body: str
    likeness: str
    colour: str
    colour2: str
    size: str
    element: str
    parts: tuple[Part, ...]
    habitat: str
    behaviour: str
    power: str
    temper: str
    diet: str


def _size(rng: Random, tags: set[str]) -> str:
    """Draw a size; strong or scaly kinds are bigger, small kinds smaller."""
    weights = dict(SIZES)
    if tags & {"strong", "scaly"}:
        weights |= {"tall": 4.0, "huge": 3.0, "tiny": 0.3}
    if tags & {"small", "bug", "charm"}:
        weights |= {"tiny": 4.0, "tall": 0.7, "huge": 0.1}
    return rng.choices(list(weights), list(weights.values()))[0]


def _colours(rng: Random, element: Entry) -> tuple[str, str]:
    """Draw a main colour that suits the element, and another one."""
    names = list(lexicon()["colour"])
    main = rng.choices(names, [5.0 if name in element.get("col") else 1.0 for name in names])[0]
    return main, rng.choice([name for name in names if name != main])


def _part(rng: Random, entry: Entry, colours: tuple[str, str]) -> Part:
    """Give a part a shape, a colour or both."""
    allowed = entry.get("m")
    shapes = [name for name in allowed if name != "C"]
    palette = [*colours, *colours, *lexicon()["colour"]]
    kind = rng.choices(["shape", "colour", "both"], [4.0, 4.0, 2.0])[0]
    if "C" not in allowed:
        kind = "shape"
    if not shapes:
        kind = "colour"
    shape = rng.choice(shapes) if kind != "colour" else ""
    return Part(entry.name, shape, rng.choice(palette) if kind != "shape" else "")


def _place(entry: Entry) -> set[str]:
    """Return the words of a part's key, which tell what place on the body it takes."""
    return {word.removesuffix("s") for word in entry.name.split("_")}


def _parts(rng: Random, typical: tuple[str, ...], tags: set[str], colours: tuple[str, str]) -> tuple[Part, ...]:
    """Draw two or three parts that take different places."""
    pool, parts = list(lexicon()["part"].values()), []
    for _ in range(rng.choice([2, 2, 3])):
        entry = weighted(rng, pool, tags, typical)
        pool = [other for other in pool if not _place(other) & _place(entry)]
        parts.append(_part(rng, entry, colours))
    return tuple(parts)


def sample_creature(rng: Random) -> Creature:
    """Draw a creature whose attributes mostly go together."""
    words = lexicon()
    likeness = rng.choice(list(words["likeness"].values()))
    body = words["body"][rng.choice(likeness.get("b"))]
    preferred = likeness.get("e") if rng.random() < 0.75 else tuple(words["element"])
    element = words["element"][rng.choice(preferred)]
    tags = {*likeness.get("t"), *body.get("t"), *element.get("t"), element.name}
    colours = _colours(rng, element)
    parts = _parts(rng, likeness.get("p"), tags, colours)
    life = {
        key: weighted(rng, list(words[key].values()), tags).name
        for key in ("habitat", "behaviour", "power", "temper", "diet")
    }
    return Creature(body.name, likeness.name, *colours, _size(rng, tags), element.name, parts, **life)


def _part_text(part: Part) -> str:
    """Return a part with its modifiers as plain words."""
    return " ".join(word for word in (part.shape, part.colour, part.name) if word).replace("_", " ")


def facts(creature: Creature) -> list[tuple[str, str]]:
    """Return the canonical attributes in a fixed order."""
    plain = ("body", "likeness", "colour", "colour2", "size", "element")
    life = ("habitat", "behaviour", "power", "temper", "diet")
    named = {key: str(getattr(creature, key)).replace("_", " ") for key in (*plain, *life)}
    parts = ("parts", ", ".join(_part_text(part) for part in creature.parts))
    return [*((key, named[key]) for key in plain), parts, *((key, named[key]) for key in life)]
