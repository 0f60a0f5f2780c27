"""Synthetic creatures for the tiny base: attributes, descriptions and names from a seeded generator."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

FILES = ("lexicon.toml", "lexicon_likeness.toml", "lexicon_parts.toml", "lexicon_life.toml")
FRAMES = "lexicon_frames.toml"
IRREGULAR = {"have": ("has", "having"), "be": ("is", "being"), "do": ("does", "doing"), "go": ("goes", "going")}
DOUBLED = re.compile(r"[^aeiou]*(qu)?[aeiou][^aeiouwxy]|forget|prefer|travel|tunnel")
SIZES = {"tiny": 2.0, "small": 4.0, "medium": 3.0, "tall": 2.0, "huge": 1.0}
REGISTERS = ("caption", "field", "child", "precise", "riddle", "habitat")
SLOT = re.compile(r"\{(\w+)(?:\.(\w))?\}")
ATTRIBUTES = {"body": "body", "el": "element", "beh": "behaviour", "pow": "power", "like": "likeness"}
# Slots of a frame that are filled from another list of an attribute than its wordings, and those named otherwise.
LISTS = {"cmp": ("size", "cmp"), "exact": ("size", "exact"), "adj": ("element", "adj"), "type": ("element", "say")}
PLAIN = {"col": "colour", "col2": "colour2", "size": "size", "habitat": "habitat", "temper": "temper", "diet": "diet"}
WORDS = (20, 60)
CLUMSY = re.compile(
    r"\b(\w+) \1\b|\b(?:with|has|having) [^,.;:]{1,45} with (?:a|an|two|the)\b|\b(\w{4,})-like \2\b"
    r"|-like [\w-]+-like|coloured[- ]in colou?r|-like creature (?:shaped )?like|resembling a \w+-like"
)
SUBJECT = re.compile(r"\bit (can|cannot|will|has|is|never|\w+[^s\W]s)\b")
VOWELS = "aeiouy"
UGLY = re.compile(
    r"[^aeiouy]{4}|[aeiou]{3}|(.)\1\1|^([^aeiouy])\2|[^aeiouylrnm][^aeiouylrnmhstck][^aeiouylrwh]|q[^u]|[jvq]$"
)
HARD_START = re.compile(
    r"^(?!sh|ch|th|wh|ph|st|sp|sc|sk|sl|sm|sn|sw|[bcdfgkpt][lr]|tw|gn|kn|qu|scr|spr|str)[^aeiouy]{2}"
)
HARD_END = re.compile(r"[^aeiouylrnms][^aeiouyhskt]$|[rl][rln]$|[nm][rl]$")


# Word lists, and the inflection of English words.


@dataclass(frozen=True)
class Entry:
    """One value of an attribute: its wordings, its tags and its name roots."""

    name: str
    say: tuple[str, ...]
    extra: dict[str, tuple[str, ...]]

    def get(self, key: str) -> tuple[str, ...]:
        """A further list of the entry, empty where there is none."""
        return self.extra.get(key, ())


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _entry(name: str, row: dict[str, str]) -> Entry:
    phrases = {key: tuple(text.split("|")) for key, text in row.items() if key in {"say", "adj", "vp", "cmp", "exact"}}
    words = {key: tuple(text.split()) for key, text in row.items() if key not in phrases}
    return Entry(name, phrases.pop("say"), phrases | words)


@cache
def lexicon() -> dict[str, dict[str, Entry]]:
    """Every attribute's entries by attribute and name."""
    tables = [_read(name) for name in FILES]
    return {key: {n: _entry(n, row) for n, row in rows.items()} for table in tables for key, rows in table.items()}


@cache
def frames() -> dict[str, dict[str, list[str]]]:
    """The sentence frames by register and group."""
    return _read(FRAMES)


def weighted(rng: Random, entries: list[Entry], tags: set[str], favoured: tuple[str, ...] = ()) -> Entry:
    """Draw an entry, those sharing tags far more often; entries lacking a needed trait never."""
    pool = [entry for entry in entries if not entry.get("n") or tags & set(entry.get("n"))]
    weights = [0.02 + len(tags & set(entry.get("t"))) ** 3 + 12 * (entry.name in favoured) for entry in pool]
    return rng.choices(pool, weights)[0]


def third(verb: str) -> str:
    """The third person singular of a verb."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][0]
    if re.search(r"(s|x|z|ch|sh)$", verb):
        return verb + "es"
    if re.search(r"[^aeiou]y$", verb):
        return verb[:-1] + "ies"
    return verb + "s"


def gerund(verb: str) -> str:
    """The -ing form of a verb."""
    if verb in IRREGULAR:
        return IRREGULAR[verb][1]
    if DOUBLED.fullmatch(verb):
        return verb + verb[-1] + "ing"
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + "ing"


def _form(verb: str, form: str) -> str:
    # s: third person, g: gerund, i: first person, b: base.
    if form == "s":
        return third(verb)
    if form == "g":
        return gerund(verb)
    return "am" if form == "i" and verb == "be" else verb


def verb_phrase(phrase: str, form: str) -> str:
    """Inflect a verb phrase whose verbs are starred, or else its first word."""
    if "*" not in phrase:
        phrase = "*" + phrase
    return re.sub(r"\*([a-z]+)", lambda match: _form(match[1], form), phrase)


def join(items: list[str]) -> str:
    """Join noun phrases with commas and a final "and"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _article(match: re.Match[str]) -> str:
    word = match[2].lower()
    vowel = word[0] in "aeiou" and not re.match(r"(one|uni(?!n)|eu|use|usu)", word)
    silent = word.startswith(("hour", "honest", "heir"))
    return ("An" if match[1][0] == "A" else "an")[: 2 if vowel or silent else 1] + " " + match[2]


def tidy(text: str) -> str:
    """Put right articles, doubled punctuation, spaces and capitals."""
    text = re.sub(r"\b(an?|An?) (?=\w)(\S+)", _article, text)
    text = re.sub(r",\s*([,.;:!?])", r"\1", re.sub(r"\s+", " ", text)).strip()
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


# Creatures.


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
    weights = dict(SIZES)
    if tags & {"strong", "scaly"}:
        weights |= {"tall": 4.0, "huge": 3.0, "tiny": 0.3}
    if tags & {"small", "bug", "charm"}:
        weights |= {"tiny": 4.0, "tall": 0.7, "huge": 0.1}
    return rng.choices(list(weights), list(weights.values()))[0]


def _colours(rng: Random, element: Entry) -> tuple[str, str]:
    names = list(lexicon()["colour"])
    main = rng.choices(names, [5.0 if name in element.get("col") else 1.0 for name in names])[0]
    return main, rng.choice([name for name in names if name != main])


def _part(rng: Random, entry: Entry, colours: tuple[str, str]) -> Part:
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
    return {word.removesuffix("s") for word in entry.name.split("_")}


def _parts(rng: Random, typical: tuple[str, ...], tags: set[str], colours: tuple[str, str]) -> tuple[Part, ...]:
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


def facts(creature: Creature) -> list[tuple[str, str]]:
    """The attributes that nearly every description states, in a fixed order."""
    parts = ", ".join(" ".join(filter(None, (part.shape, part.colour, part.name))) for part in creature.parts)
    stated = [
        *((key, str(getattr(creature, key))) for key in ("body", "likeness", "colour", "element")),
        ("parts", parts),
    ]
    return [(key, value.replace("_", " ")) for key, value in stated]


# Descriptions.


def _pick(rng: Random, phrases: Sequence[str], register: str) -> str:
    return rng.choice(phrases[:3] if register == "child" else phrases)


def _entry_of(creature: Creature, attribute: str) -> Entry:
    key = getattr(creature, attribute)
    return lexicon()["colour" if attribute == "colour2" else attribute][key]


def _worded_part(rng: Random, part: Part, register: str) -> str:
    words = lexicon()
    phrase = _pick(rng, words["part"][part.name].say, register)
    shape = _pick(rng, words["modifier"][part.shape].say, register) if part.shape else ""
    colour = _pick(rng, words["colour"][part.colour].say, register) if part.colour else ""
    modifier = (
        ", ".join(word for word in (shape, colour) if word) if rng.random() < 0.3 else f"{shape} {colour}".strip()
    )
    bare = phrase.removeprefix("~")
    full = bare.replace("%", modifier) if "%" in bare else f"{modifier} {bare}"
    counted = phrase.startswith("~") or re.match(r"(two|three|four|six|several|one) ", bare) is not None
    return full if counted else "a " + full


def _first_person(text: str) -> str:
    text = text.replace("its ", "my ").replace("itself", "myself")
    text = SUBJECT.sub(lambda match: "I " + _base(match[1]), text)
    return re.sub(r"\bit\b", "me", text)


def _base(verb: str) -> str:
    known = {"has": "have", "is": "am", "can": "can", "cannot": "cannot", "will": "will", "never": "never"}
    if verb in known:
        return known[verb]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(ch|sh|x|ss)es$", verb) else verb[:-1]


def _worded_parts(rng: Random, creature: Creature, register: str) -> dict[str, str]:
    order = list(creature.parts)
    rng.shuffle(order)
    worded = [_worded_part(rng, part, register) for part in order]
    if register == "riddle":
        worded = [_first_person(text) for text in worded]
    return {"parts": join(worded), "p1": worded[0], "rest": join(worded[1:])}


def _likeness_adjective(rng: Random, creature: Creature) -> str:
    say = _entry_of(creature, "likeness").say
    single = [word for word in say if " " not in word]
    return rng.choice(single or say[:1]).replace(" ", "-") + "-like"


def _value(rng: Random, creature: Creature, slot: str, form: str, register: str) -> str:
    if form:
        entry = _entry_of(creature, ATTRIBUTES[slot])
        return verb_phrase(_pick(rng, entry.get("vp") or entry.say, register), form)
    if slot == "likeadj":
        return _likeness_adjective(rng, creature)
    if slot in LISTS:
        attribute, key = LISTS[slot]
        entry = _entry_of(creature, attribute)
        return _pick(rng, entry.say if key == "say" else entry.get(key), register)
    return _pick(rng, _entry_of(creature, PLAIN.get(slot) or ATTRIBUTES[slot]).say, register)


def _expand(rng: Random, creature: Creature, text: str, register: str, parts: dict[str, str]) -> str:
    macros = frames()["macro"]

    def fill(match: re.Match[str]) -> str:
        slot, form = match[1], match[2] or ""
        if slot in macros:
            return SLOT.sub(fill, rng.choice(macros[slot]))
        if slot in parts:
            return parts[slot]
        value = _value(rng, creature, slot, form, register)
        return _first_person(value) if register == "riddle" else value

    return SLOT.sub(fill, text)


def _attempt(rng: Random, creature: Creature, register: str) -> str:
    groups = frames()[register]
    parts = _worded_parts(rng, creature, register)
    chosen = [rng.choice(groups[name]) for name in rng.choice(groups["plans"]).split()]
    if sum("{parts}" in frame or "{rest}" in frame for frame in chosen) > 1:
        return ""
    return tidy(" ".join(_expand(rng, creature, frame, register, parts) for frame in chosen))


def describe(creature: Creature, rng: Random, register: str) -> str:
    """Describe a creature in one register, in 20 to 60 words wherever the frames allow."""
    text = ""
    for _ in range(40):
        text = _attempt(rng, creature, register) or text
        if WORDS[0] <= len(text.split()) <= WORDS[1] and not CLUMSY.search(text.lower()):
            break
    return text


# Names.


def _entries(creature: Creature) -> list[Entry]:
    words = lexicon()
    parts = [words["part"][part.name] for part in creature.parts]
    likeness, element = words["likeness"][creature.likeness], words["element"][creature.element]
    colour, size = words["colour"][creature.colour], words["size"][creature.size]
    # The telling ones more than once.
    return [*[likeness] * 3, *[element] * 2, *parts, *parts, words["body"][creature.body], colour, size]


def _fuse(left: str, right: str) -> str:
    for length in (3, 2, 1):
        if left[-length:] == right[:length]:
            return left + right[length:]
    if left[-1] in VOWELS and right[0] in VOWELS:
        return left[:-1] + right
    return left + right


def _clip(root: str, rng: Random) -> str:
    keep = rng.randint(3, 5)
    clipped = root[:keep]
    return clipped if any(letter in VOWELS for letter in clipped) else root


def _candidate(creature: Creature, rng: Random) -> str:
    first, second = rng.sample(_entries(creature), 2)
    left, right = rng.choice(first.get("en")), rng.choice(second.get("en"))
    endings = frames()["endings"]["english"]
    if left == right or rng.random() < 0.3:
        return _fuse(left, rng.choice(endings))
    if rng.random() < 0.72:
        return _fuse(_clip(left, rng), right)
    return _fuse(_fuse(_clip(left, rng)[:3], _clip(right, rng)[:4]), rng.choice(endings))


def _sounds_good(name: str) -> bool:
    return 4 <= len(name) <= 11 and not any(rule.search(name) for rule in (UGLY, HARD_START, HARD_END))


def invent_name(creature: Creature, rng: Random, taken: frozenset[str] = frozenset()) -> str:
    """Invent an English-style name whose lower case is not in taken."""
    while True:
        name = _candidate(creature, rng)
        if name.isascii() and name.isalpha() and _sounds_good(name) and name not in taken:
            return name.capitalize()


def invent_korean_name(creature: Creature, rng: Random, taken: frozenset[str] = frozenset()) -> str:
    """Invent a Korean name of two to five syllables that is not in taken."""
    while True:
        first, second = rng.sample(_entries(creature), 2)
        left, right = rng.choice(first.get("ko")), rng.choice(second.get("ko"))
        style = rng.random()
        if style < 0.45:
            name = left + right
        elif style < 0.75:
            name = left[:1] + right
        else:
            name = left + rng.choice(frames()["endings"]["korean"])
        if 2 <= len(name) <= 5 and left != right and name not in taken:
            return name
