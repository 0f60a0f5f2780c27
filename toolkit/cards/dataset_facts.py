"""What a dataset card says, part by part: counts and the build's facts in, values for the templates out.

Values are ready: escaped text, formatted numbers, booleans. What is unknown is None, and not on the card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.cards.escape import md_cell, md_text
from toolkit.cards.labels import DROPPED_KO, LANGUAGES, PURPOSES, SOURCE_KINDS
from toolkit.cards.metadata import JsonObject, Manifest
from toolkit.core import number
from toolkit.core.text import natural

Lengths = NDArray[np.int32]
Facts = dict[str, object]
NAMES_SHOWN, SOURCES_SHOWN, LICENSES_SHOWN, REASONS_SHOWN = 40, 20, 20, 40


@dataclass(slots=True)
class SplitCounts:
    """One split: characters of each description by language, rows by creature, and families."""

    lengths: dict[str, Lengths] = field(default_factory=dict)
    creatures: Counter[str] = field(default_factory=Counter)
    families: set[str] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """Rows of all languages."""
        return sum(map(len, self.lengths.values()))


@dataclass(slots=True)
class DatasetCounts:
    """All splits that have rows, in the order of `SPLITS`; rows by language, by licence, and by (source, language).

    Attributes:
        labels: `generation`, `type`, `register` or `source` -> (label, split) -> rows.
        held_out: Creature -> its answer, of the creatures in `unseen`.
    """

    splits: dict[str, SplitCounts] = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str] = field(default_factory=Counter)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    labels: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    held_out: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    def whole(self) -> SplitCounts:
        """All splits as one."""
        whole = SplitCounts()
        for split in self.splits.values():
            for language, lengths in split.lengths.items():
                append_lengths(whole.lengths, language, lengths)
            whole.creatures.update(split.creatures)
            whole.families |= split.families
        return whole


def append_lengths(lengths: dict[str, Lengths], language: str, more: Lengths) -> None:
    """Add a language's lengths to those that are there."""
    lengths[language] = np.concatenate([lengths[language], more]) if language in lengths else more


def content_facts(counts: DatasetCounts) -> Facts:
    """Rows, creatures, families and lengths, of all splits and of each."""
    whole, types = counts.whole(), counts.labels.get("type", Counter())
    each = np.array(list(whole.creatures.values()))
    of_split = {split: {label for label, of in types if of == split} for split in ("train", "unseen")}
    return {
        "rows": number(counts.rows),
        "creatures": number(len(whole.creatures)),
        "families": number(len(whole.families)),
        "has_families": len(whole.families) < len(whole.creatures),
        "splits": [
            {"name": name, "english": PURPOSES[name][0], "korean": PURPOSES[name][1], **_row(split)}
            for name, split in counts.splits.items()
        ],
        "total": _row(whole),
        "languages": _spoken(counts.languages),
        "two_languages": len(counts.languages) > 1,
        "least": number(int(each.min())),
        "median": f"{np.median(each):,.0f}",
        "most": number(int(each.max())),
        "even": bool(each.min() == each.max()),
        "has": {name: name in counts.splits for name in PURPOSES},
        # Types that are the first type of a row in `unseen`, and of no row in `train`.
        "only_unseen": _listed(sorted(of_split["unseen"] - of_split["train"])) or None,
    }


def _row(split: SplitCounts) -> Facts:
    lengths = np.concatenate(list(split.lengths.values()))
    return {
        "rows": number(split.rows),
        "creatures": number(len(split.creatures)),
        "families": number(len(split.families)),
        "mean": f"{lengths.mean():,.0f}",
        "median": f"{np.median(lengths):,.0f}",
        "longest": number(int(lengths.max())),
    }


def _spoken(languages: Mapping[str, int]) -> dict[str, str]:
    """Languages with their rows: `named` and `counted` in English, `named_ko` and `counted_ko` in Korean."""
    names = [(*LANGUAGES.get(code, (md_text(code, 20),) * 2), number(rows)) for code, rows in sorted(languages.items())]
    return {
        "named": _listed([english for english, _, _ in names], "or"),
        "counted": _listed([f"{rows} {english}" for english, _, rows in names]),
        "named_ko": "나 ".join(korean for _, korean, _ in names),
        "counted_ko": ", ".join(f"{korean} {rows}건" for _, korean, rows in names),
    }


def _listed(words: Sequence[str], link: str = "and") -> str:
    return "".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} {link} {words[-1]}"


def source_facts(sources: Sequence[JsonObject], counts: DatasetCounts) -> Facts:
    """Every source as a row of a table, and for each kind of source the facts of its texts, None if it is not used."""
    return {
        "several": len(sources) > 1,
        "table_rows": [
            {
                "english": SOURCE_KINDS[source["name"]],
                "location": md_cell(source["location"], 200),
                "revision": md_cell(source["revision"] or "", 20),
                "license": md_cell(source["license"], 60),
                "rows": number(source["rows"]),
                # A commit names the content already.
                "hash": md_cell("" if source["content_hash"] == source["revision"] else source["content_hash"], 17),
            }
            for source in sources[:SOURCES_SHOWN]
        ],
        "more": number(len(sources) - SOURCES_SHOWN) if len(sources) > SOURCES_SHOWN else None,
        "notes": [md_text(note, 300) for source in sources for note in source["notes"]][:SOURCES_SHOWN],
        **{kind: _kind(kind, sources, counts) for kind in SOURCE_KINDS},
        "several_kinds": len({source["name"] for source in sources}) > 1,
    }


def _kind(kind: str, sources: Sequence[JsonObject], counts: DatasetCounts) -> Facts | None:
    places = [md_text(source["location"], 200) for source in sources if source["name"] == kind]
    if not places:
        return None
    languages = {language: rows for (source, language), rows in counts.sources.items() if source == kind}
    spoken = _spoken(languages) if languages else {"counted": "no", "counted_ko": "0건"}
    return {
        "places": _listed(places[:SOURCES_SHOWN]),
        "places_ko": ", ".join(places[:SOURCES_SHOWN]),
        "several": len(places) > 1,
        "counted": spoken["counted"],
        "counted_ko": spoken["counted_ko"],
        "english": "en" in languages,
        "korean": "ko" in languages,
        "registers": number(len({label for label, _ in counts.labels.get("register", ())})),
    }


def making_facts(facts: Manifest, counts: DatasetCounts) -> Facts:
    """Every step from reading to the splits, with its count."""
    settings, dropped = facts["settings"], facts["dropped"]
    known = {split: _share(settings[f"{split}_size"]) for split in ("test", "validation") if split in counts.splits}
    return {
        "read": number(facts["read"]),
        "dropped": [
            {
                "english": md_cell(entry["what"], 100),
                "korean": DROPPED_KO.get(reason) or md_cell(entry["what"], 100),
                "rows": number(entry["rows"]),
            }
            for reason, entry in list(dropped.items())[:REASONS_SHOWN]
        ],
        "dropped_rows": number(sum(entry["rows"] for entry in dropped.values())),
        "repeated": number((dropped.get("duplicate") or {}).get("rows")),
        "least": number(settings["min_characters"]),
        "most": number(settings["max_characters"]),
        "masks": [
            {
                "language": LANGUAGES[code][0],
                "korean": LANGUAGES[code][1],
                "own": md_cell(settings[f"{prefix}mask"], 80),
                "other": md_cell(settings[f"{prefix}other_mask"], 80),
            }
            for code, prefix in (("en", ""), ("ko", "korean_"))
            if code in counts.languages
        ],
        "similarity": f"{settings['near_duplicate']:g}",
        "clustered": {name: number(value) for name, value in facts["near_duplicates"].items()},
        "min_clusters": facts["min_clusters"],
        "unseen_share": _share(settings["unseen_size"]),
        "known_shares": _listed([f"about {share} of them to `{split}`" for split, share in known.items()]) or None,
        "known_shares_ko": ", ".join(f"약 {share}를 `{split}`에" for split, share in known.items()) or None,
        "seed": facts["seed"],
        "recipe": md_text(facts["recipe"], 80),
        "variants": number(settings["request_variants"]) if settings["request_variants"] > 1 else None,
        "system": md_text(settings["system"], 200) if settings["system"] else None,
    }


def _share(share: float) -> str:
    return f"{share * 100:g} %"


def held_out_facts(counts: DatasetCounts) -> Facts | None:
    """The creatures in `unseen`: the answers of its rows, in the order of the creatures' keys."""
    if not counts.held_out:
        return None
    names = list(dict.fromkeys(counts.held_out[key] for key in sorted(counts.held_out, key=natural)))
    return {
        "names": ", ".join(md_text(name, 60) for name in names[:NAMES_SHOWN]),
        "more": number(len(names) - NAMES_SHOWN) if len(names) > NAMES_SHOWN else None,
        "creatures": number(len(counts.held_out)),
        "families": number(len(counts.splits["unseen"].families)),
    }


def license_facts(licenses: Counter[str]) -> list[Facts]:
    """Licences with their rows, the most frequent first."""
    ordered = sorted(licenses.items(), key=lambda entry: (-entry[1], entry[0]))
    return [{"name": md_text(name, 60), "rows": number(rows)} for name, rows in ordered[:LICENSES_SHOWN]]


def validation_facts(validation: JsonObject | None) -> Facts | None:
    """The result of `pkt validate`, or None when there is none."""
    if validation is None:
        return None
    findings, skipped = validation["findings"], validation["skipped"]
    errors = [finding for finding in findings if finding["severity"] == "error"] or findings
    return {
        "ok": validation["ok"],
        "strict": validation["strict"],
        "rows": number(sum(validation["rows"].values())),
        "findings": [
            {
                **{key: md_cell(finding[key], limit) for key, limit in (("code", 40), ("severity", 20), ("what", 140))},
                "count": number(finding["count"]),
            }
            for finding in findings
        ],
        "errors": ", ".join(f"{md_text(finding['code'], 40)} ({number(finding['count'])})" for finding in errors),
        "skipped": [{"code": md_text(one["code"], 40), "reason": md_text(one["reason"], 140)} for one in skipped],
        "skipped_codes": ", ".join(md_text(one["code"], 40) for one in skipped),
    }
