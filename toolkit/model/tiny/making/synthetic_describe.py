"""Writes descriptions of a creature in six registers from sentence frames and synonyms."""

import re
from collections.abc import Sequence
from random import Random

from toolkit.model.tiny.making.synthetic_creature import Creature, Part
from toolkit.model.tiny.making.synthetic_words import Entry, frames, join, lexicon, tidy, verb_phrase

REGISTERS = ("caption", "field", "child", "precise", "riddle", "habitat")
SLOT = re.compile(r"\{(\w+)(?:\.(\w))?\}")
ATTRIBUTES = {"body": "body", "el": "element", "beh": "behaviour", "pow": "power", "like": "likeness"}
LISTS = {
    "cmp": ("size", "cmp"),
    "exact": ("size", "exact"),
    "adj": ("element", "adj"),
    "type": ("element", "say"),
}
PLAIN = {
    "col": "colour",
    "col2": "colour2",
    "size": "size",
    "habitat": "habitat",
    "temper": "temper",
    "diet": "diet",
}
WORDS = (20, 60)
CLUMSY = re.compile(
    r"\b(\w+) \1\b|\b(?:with|has|having) [^,.;:]{1,45} with (?:a|an|two|the)\b|\b(\w{4,})-like \2\b"
    r"|-like [\w-]+-like|coloured[- ]in colou?r|-like creature (?:shaped )?like|resembling a \w+-like"
)
SUBJECT = re.compile(r"\bit (can|cannot|will|has|is|never|\w+[^s\W]s)\b")


def _pick(rng: Random, phrases: Sequence[str], register: str) -> str:
    """Choose a wording; a child keeps to the plainest ones."""
    return rng.choice(phrases[:3] if register == "child" else phrases)


def _entry(creature: Creature, attribute: str) -> Entry:
    """Return the word list entry of one attribute."""
    key = getattr(creature, attribute)
    return lexicon()["colour" if attribute == "colour2" else attribute][key]


def _part(rng: Random, part: Part, register: str) -> str:
    """Word one part as a noun phrase with its modifiers."""
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
    """Turn a phrase about "it" into one about "me"."""
    text = text.replace("its ", "my ").replace("itself", "myself")
    text = SUBJECT.sub(lambda match: "I " + _base(match[1]), text)
    return re.sub(r"\bit\b", "me", text)


def _base(verb: str) -> str:
    """Undo the third person ending of a verb."""
    known = {"has": "have", "is": "am", "can": "can", "cannot": "cannot", "will": "will", "never": "never"}
    if verb in known:
        return known[verb]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(ch|sh|x|ss)es$", verb) else verb[:-1]


def _parts(rng: Random, creature: Creature, register: str) -> dict[str, str]:
    """Word all parts once: the whole list, the first, and the others."""
    order = list(creature.parts)
    rng.shuffle(order)
    worded = [_part(rng, part, register) for part in order]
    if register == "riddle":
        worded = [_first_person(text) for text in worded]
    return {"parts": join(worded), "p1": worded[0], "rest": join(worded[1:])}


def _likeness_adjective(rng: Random, creature: Creature) -> str:
    """Return a word like "turtle-like" from a one-word synonym where there is one."""
    say = _entry(creature, "likeness").say
    single = [word for word in say if " " not in word]
    return rng.choice(single or say[:1]).replace(" ", "-") + "-like"


def _value(rng: Random, creature: Creature, slot: str, form: str, register: str) -> str:
    """Word one slot of a frame."""
    if form:
        entry = _entry(creature, ATTRIBUTES[slot])
        return verb_phrase(_pick(rng, entry.get("vp") or entry.say, register), form)
    if slot == "likeadj":
        return _likeness_adjective(rng, creature)
    if slot in LISTS:
        attribute, key = LISTS[slot]
        entry = _entry(creature, attribute)
        return _pick(rng, entry.say if key == "say" else entry.get(key), register)
    return _pick(rng, _entry(creature, PLAIN.get(slot) or ATTRIBUTES[slot]).say, register)


def _expand(rng: Random, creature: Creature, text: str, register: str, parts: dict[str, str]) -> str:
    """Fill the slots of a frame, those of nested macros too."""
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
    """Write one description by a plan of the register, whatever its length."""
    groups = frames()[register]
    parts = _parts(rng, creature, register)
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
