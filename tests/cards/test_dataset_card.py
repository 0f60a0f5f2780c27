"""The dataset card: true to its folder whatever the sources, whole whatever the text, the same bytes each time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCardData
from huggingface_hub.repocard import metadata_load
from markdown_it import MarkdownIt
from PIL import Image

from toolkit.cards.labels import DROPPED_KO
from toolkit.cards.metadata import dataset_front_matter
from toolkit.cards.page import render_markdown
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes
from toolkit.data.card import write_card
from toolkit.data.cleaning import DROPPED
from toolkit.model import chat

TEXT = pa.string()
SCHEMA = pa.schema(
    [
        ("id", TEXT),
        ("messages", pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))),
        *((name, TEXT) for name in ("answer", "description", "creature", "family", "language", "source", "license")),
        ("attributes", TEXT),
    ]
)
REQUEST = "다음 특성을 살린 이름을 지어줘:"
TEMPLATES = [file for file in files("toolkit.cards.dataset_templates").iterdir() if file.name.endswith(".jinja")]
METADATA = {
    "annotations_creators": {"no-annotation", "found"},
    "language_creators": {"machine-generated", "found"},
    "language": {"en", "ko"},
    "license": {"cc0-1.0", "other", "mit"},
    "license_name": {"see-card"},
    "multilinguality": {"multilingual", "monolingual"},
    "size_categories": {"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"},
    "source_datasets": {"original", "extended|other", "owner/creatures"},
    "task_categories": {"text-generation"},
    "pretty_name": {"Pokémon names from descriptions", "Names from descriptions"},
    "tags": {"pokemon", "synthetic", "chat", "korean", "naming", "instruction-tuning"},
}
"""What the Hub accepts for each field, as far as a card of ours can say it."""


def row(number: int, **changes: Any) -> dict[str, Any]:
    """One of ten rows that repeat: 5 creatures in 3 families, texts of 20 to 110 characters."""
    text = changes.pop("description", "A brown animal. " + "It runs. " * (number % 10))
    answer = f"Name{number % 5}"
    return {
        "id": f"{number}",
        "messages": [
            {"role": "user", "content": f"{REQUEST}\n\n{text}"},
            {"role": "assistant", "content": answer},
        ],
        "answer": answer,
        "description": text,
        "creature": f"pet/{number % 5}",
        "family": f"kin/{number % 5 // 2}",
        "language": "en",
        "source": "table",
        "license": "mit",
        "attributes": "{}",
        **changes,
    }


def rows(count: int = 20, start: int = 0, **changes: Any) -> list[dict[str, Any]]:
    return [row(start + number, **changes) for number in range(count)]


def source(name: str = "table", **changes: Any) -> dict[str, Any]:
    known = {"name": name, "location": "dogs.csv", "revision": None, "license": "mit", "content_hash": "ab" * 32}
    return {**known, "rows": 20, "notes": [], **changes}


def facts(*sources: dict[str, Any], pokemon: bool = False, **changes: Any) -> dict[str, Any]:
    settings = {
        "answer": "en",
        "mask": "this dog",
        "other_mask": "another dog",
        "korean_mask": "이 개",
        "korean_other_mask": "다른 개",
        "request": None,
        "request_variants": 1,
        "system": None,
        "min_characters": 20,
        "max_characters": 1200,
        "validation_size": 0.1,
        "test_size": 0.15,
        "unseen_size": 0.1,
        "near_duplicate": 0.7,
        **changes.pop("settings", {}),
    }
    known = {"recipe": "demo", "seed": 7, "license": "mit", "pokemon": pokemon, "read": 20, "dropped": {}}
    known |= {"near_duplicates": {"rows": 0, "clusters": 0}, "settings": settings}
    return {**known, "sources": list(sources) or [source()], **changes}


def card(
    folder: Path,
    splits: Mapping[str, Iterable[dict[str, Any]]] | None = None,
    build: dict[str, Any] | None = None,
    validation: dict[str, Any] | None = None,
) -> str:
    """The card of a folder that holds these rows."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "data").mkdir(exist_ok=True)
    for split, its in (splits or {"train": rows()}).items():
        pq.write_table(pa.Table.from_pylist(list(its), SCHEMA), folder / "data" / f"{split}-00000-of-00001.parquet")
    if validation is not None:
        (folder / "validation.json").write_text(json.dumps(validation))
    write_card(folder, build or facts())
    return (folder / "README.md").read_text(encoding="utf-8")


def report(*findings: tuple[str, str, int], skipped: tuple[str, ...] = (), strict: bool = False) -> dict[str, Any]:
    bad = any(strict or severity == "error" for _, severity, _ in findings)
    return {
        "toolkit": "0.1.0",
        "ok": not bad,
        "strict": strict,
        "rows": {"train": 20},
        "findings": [
            {"code": code, "severity": severity, "what": f"what {code} is", "count": count, "places": []}
            for code, severity, count in findings
        ],
        "skipped": [{"code": code, "reason": "no tokenizer"} for code in skipped],
    }


def section(text: str, title: str) -> str:
    """A section of the card, from its heading to the next of its rank."""
    rank = "###" if f"\n### {title}\n" in text else "##"
    return text.split(f"\n{rank} {title}\n")[1].split(f"\n{rank} ")[0]


# What the Hub reads.


@pytest.mark.parametrize(
    "build",
    [
        facts(),
        facts(source("corpus", location="embedded corpus"), pokemon=True, license="CC0-1.0"),
        facts(source("corpus"), source("pokeapi"), source("hub", location="owner/creatures"), license="a|b\n---"),
        facts(source("hub", location="folder")),
        facts(settings={"answer": "ko"}),
    ],
    ids=["table", "corpus", "several", "folder", "korean"],
)
def test_the_metadata_is_what_the_hub_accepts(build: dict[str, Any], tmp_path: Path) -> None:
    card(tmp_path, build=build)
    metadata = metadata_load(tmp_path / "README.md")
    assert DatasetCardData(**metadata).to_dict() == metadata
    assert metadata.pop("configs") == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}
    ]
    for key, value in metadata.items():
        assert set(value if isinstance(value, list) else [value]) <= METADATA[key], key


@pytest.mark.parametrize(
    ("splits", "settings", "is_benchmark"),
    [
        (("train", "test"), {}, True),
        (("train", "test"), {"request": "Name it:", "request_variants": 3}, True),
        (("train", "test"), {"request_variants": 3}, False),
        (("train", "validation"), {}, False),
    ],
    ids=["one request", "own request", "several requests", "no test"],
)
def test_a_dataset_is_a_benchmark_where_it_has_a_test_and_one_request(
    splits: tuple[str, ...], settings: dict[str, Any], is_benchmark: bool, tmp_path: Path
) -> None:
    (tmp_path / "eval.yaml").write_text("of earlier rows")
    card(tmp_path, {split: rows() for split in splits}, facts(settings=settings))
    assert (tmp_path / "eval.yaml").is_file() == is_benchmark
    if is_benchmark:
        (task,) = yaml.safe_load((tmp_path / "eval.yaml").read_text(encoding="utf-8"))["tasks"]
        request = settings.get("request", chat.REQUEST)
        assert task["solvers"][0]["args"]["template"] == f"{request}\n\n{{prompt}}"


@pytest.mark.parametrize(
    ("count", "size"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (100_000, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_the_size_is_counted(count: int, size: str) -> None:
    assert f"- {size}" in dataset_front_matter(facts(), {"train": count - 9, "test": 9}, ["en"], "Names")


def test_languages_are_those_of_request_description_and_answer() -> None:
    def languages(answer: str, spoken: list[str], request: str | None = None) -> str:
        settings = {"answer": answer, "request": request}
        text = dataset_front_matter(facts(settings=settings), {"train": 1}, spoken, "Names")
        return "".join(re.findall(r"^- (en|ko|multilingual|monolingual)$", text, re.MULTILINE))

    assert languages("en", ["en"]) == "enkomultilingual"
    assert languages("ko", ["ko"]) == "komonolingual"
    assert languages("ko", ["en", "ko"]) == languages("both", ["ko"]) == "enkomultilingual"
    assert languages("en", ["en"], "Name this product:") == "enmonolingual"


def test_several_sources_are_all_in_the_metadata(tmp_path: Path) -> None:
    found = source("hub", location="owner/creatures")
    card(tmp_path, build=facts(source("corpus"), found, found))
    metadata = metadata_load(tmp_path / "README.md")
    assert metadata["source_datasets"] == ["original", "owner/creatures"]
    assert metadata["language_creators"] == ["machine-generated", "found"]
    assert metadata["annotations_creators"] == ["no-annotation", "found"]


def test_the_folder_with_card_and_figures_loads_split_by_split(tmp_path: Path) -> None:
    import datasets

    card(tmp_path / "names", {"train": rows(), "test": rows(7, 3)})
    loaded = datasets.load_dataset(str(tmp_path / "names"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(its) for split, its in loaded.items()} == {"train": 20, "test": 7}


# What the card says of the rows.


def test_each_split_and_the_whole_is_counted(tmp_path: Path) -> None:
    text = card(tmp_path, {"train": rows(10), "unseen": rows(2, description="x" * 300, creature="pet/9", family="a/9")})
    assert "| `train` | 10 | 5 | 3 | 56 | 56 | 97 |" in text
    assert "| `unseen` | 2 | 1 | 1 | 300 | 300 | 300 |" in text
    assert "| all | 12 | 6 | 4 | 97 | 66 | 300 |" in text
    assert "| 전체 | 12 | 6 | 97 | 66 | 300 |" in text
    assert "`test`:" not in text
    assert "`unseen`" not in card(tmp_path / "b")


def test_the_first_row_of_train_is_shown_with_its_system_turn(tmp_path: Path) -> None:
    first = row(0)
    first["messages"].insert(0, {"role": "system", "content": "You name dogs."})
    text = card(tmp_path, {"train": [first, row(1)]}, facts(settings={"system": "You name dogs."}))
    assert f"system:\nYou name dogs.\n\nuser:\n{REQUEST}" in section(text, "Example")
    assert "begins with the system turn “You name dogs.”" in section(text, "How it was made")


def test_every_reason_to_drop_has_its_count_in_both_languages(tmp_path: Path) -> None:
    assert DROPPED_KO.keys() == DROPPED.keys()
    dropped = {reason: {"rows": 100 + place, "what": what} for place, (reason, what) in enumerate(DROPPED.items())}
    total = sum(entry["rows"] for entry in dropped.values())
    text = card(tmp_path, build=facts(read=total + 20, dropped=dropped))
    made, korean = section(text, "How it was made"), section(text, "만든 방법")
    for reason, entry in dropped.items():
        assert f"| {entry['what']} | {entry['rows']} |" in made
        assert f"| {DROPPED_KO[reason]} | {entry['rows']} |" in korean
    assert f"**Read:** {total + 20:,} descriptions" in made
    assert f"**Drop:** {total:,} descriptions" in made
    assert "| **kept** | **20** |" in made


def test_a_reason_without_a_korean_word_is_told_in_its_own(tmp_path: Path) -> None:
    text = card(tmp_path, build=facts(dropped={"new": {"rows": 3, "what": "a new | reason"}}))
    assert "| a new &#124; reason | 3 |" in section(text, "만든 방법")


def test_without_dropped_rows_there_is_no_table_of_them(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "none had to be dropped" in text
    assert "dropped because" not in text
    assert "버린 까닭" not in text


def test_near_duplicates_are_counted(tmp_path: Path) -> None:
    text = card(tmp_path, build=facts(near_duplicates={"rows": 1_200, "clusters": 500}))
    assert "stay in one split: 1,200 descriptions in 500 clusters." in text


def test_who_is_unseen_is_told_by_name_in_the_order_of_keys_up_to_a_limit(tmp_path: Path) -> None:
    unseen = [row(n, creature=f"pet/{n}", family=f"a/{n}", answer=f"Dog{n}") for n in (10, 9, *range(100, 150))]
    made = section(card(tmp_path, {"train": rows(), "unseen": unseen}), "How it was made")
    assert "52 creatures of 52 families: Dog9, Dog10, Dog100, " in made
    assert made.count("Dog") == 40
    assert "and 12 more" in made
    assert "Who is in" not in card(tmp_path / "known")


def test_the_rules_of_the_split_are_those_of_the_splits_that_exist(tmp_path: Path) -> None:
    text = section(card(tmp_path / "a", {"train": rows(), "test": rows(3)}), "How it was made")
    assert "gives about 15 % of them to `test`; `train` always keeps some. All the rest is `train`." in text
    assert "unseen" not in text
    assert "**Split**, by seed 7. Every row is in `train`." in card(tmp_path / "b")


def test_only_masks_of_languages_that_occur_are_shown(tmp_path: Path) -> None:
    made = section(card(tmp_path), "How it was made")
    assert "| English | this dog | another dog |" in made
    assert "이 개" not in made


# What the card says of where they come from.


def test_one_source_is_told_without_what_is_true_of_others(tmp_path: Path) -> None:
    english, korean = rows(source="pokeapi"), rows(source="pokeapi", language="ko")
    build = facts(source("pokeapi", location="https://e.org/csv", revision="c" * 40), pokemon=True)
    biases = section(card(tmp_path / "a", {"train": english}, build), "Known biases")
    assert "Games repeat themselves" in biases
    for other in ("corpus", "As found", "Sources differ", "Korean texts", "Two languages"):
        assert other not in biases
    text = card(tmp_path / "b", {"train": [*english, *korean]}, build)
    assert "Korean texts exist only for the games" in section(text, "Known biases")
    assert "a game's Korean and English texts of a creature stay in one split" in section(text, "Known biases")
    assert "**PokéAPI** (20 English and 20 Korean descriptions)" in text
    assert "PokéAPI(영어 20건, 한국어 20건)" in text
    assert "| PokéAPI | https&#58;<!-- -->//e.org/csv | ccccccccccccccccccc… | mit | 20 | abababababababab… |" in text


def test_several_sources_are_told_each_with_its_rows_and_languages(tmp_path: Path) -> None:
    attributes = [json.dumps({"register": register}) for register in ("caption", "riddle")]
    written = [row(n, source="corpus", attributes=attributes[n % 2]) for n in range(8)]
    found = rows(5, source="hub", language="ko")
    build = facts(
        source("corpus", location="embedded corpus", license="CC0-1.0", rows=8),
        source("hub", location="owner/creatures", revision="f" * 40, content_hash="f" * 40, rows=3),
        source("hub", location="owner/beasts", rows=2, notes=["Read as cp949."]),
        license="other",
    )
    text = card(tmp_path, {"train": [*written, *found]}, build)
    made, biases = section(text, "How it was made"), section(text, "Known biases")
    assert "**Embedded corpus** (8 English descriptions)" in made
    assert "**From the Hub** (5 Korean descriptions): the datasets owner/creatures and owner/beasts." in made
    # The commit names the content, so there is no second hash.
    assert "| a dataset on the Hub | owner/creatures | fffffffffffffffffff… | mit | 3 | – |" in made
    assert "Note: Read as cp949." in made
    assert "in 2 registers. A model" in biases
    assert "As found" in biases
    assert "Sources differ" in biases
    assert "CC0 1.0" in section(text, "Licence")
    assert "의 글은 있는 그대로" in section(text, "편향")


def test_requests_are_told_as_one_or_as_so_many(tmp_path: Path) -> None:
    assert "**One request:**" in card(tmp_path / "a")
    text = card(tmp_path / "b", build=facts(settings={"request_variants": 12}))
    assert "**Ask:** one of 12 Korean requests" in text
    assert "요청 문구는 12가지뿐입니다" in text
    assert "One request" not in text


def test_a_request_in_english_is_not_called_korean(tmp_path: Path) -> None:
    said = re.compile(r"(?:in|same) Korean|- korean|한국어로")
    assert len(said.findall(card(tmp_path / "a"))) == 6
    text = card(tmp_path / "b", build=facts(settings={"request": "Name this product:"}))
    assert not said.findall(text)
    assert "The user asks for a " in text


def test_types_that_are_only_unseen_are_a_bias(tmp_path: Path) -> None:
    def typed(count: int, name: str) -> list[dict[str, Any]]:
        return rows(count, attributes=json.dumps({"types": [name, "flying"]}))

    text = card(tmp_path, {"train": typed(9, "water"), "unseen": [*typed(3, "dragon"), *typed(2, "water")]})
    assert "as a first type, dragon is only in `unseen`" in text
    assert "is only in `unseen`" not in card(tmp_path / "b", {"train": typed(9, "water"), "unseen": typed(3, "water")})


POKEMON = re.compile(r"pok[eé]mon|포켓몬|nintendo", re.IGNORECASE)


def test_a_dataset_of_dogs_nowhere_says_pokemon(tmp_path: Path) -> None:
    kinds = ("table", "hub")
    build = facts(*map(source, kinds), dropped={"duplicate": {"rows": 1, "what": DROPPED["duplicate"]}})
    splits = {
        split: [row(n, language=("en", "ko")[n % 2], source=kinds[n % 2]) for n in range(8)]
        for split in ("train", "validation", "test", "unseen")
    }
    for name, validation in (("good", report()), ("bad", report(("dup.near", "error", 3)))):
        text = card(tmp_path / name, splits, build, validation)
        assert not POKEMON.findall(text)
        assert "개체" in text


def test_a_dataset_of_pokemon_states_the_trademark_in_both_languages(tmp_path: Path) -> None:
    text = card(tmp_path, build=facts(source("corpus"), pokemon=True))
    assert "trademarks of Nintendo" in section(text, "Licence")
    assert "상표입니다" in section(text, "라이선스")


def test_the_citation_names_version_recipe_seed_and_rows(tmp_path: Path) -> None:
    text = section(card(tmp_path / "a", build=facts(recipe="my}{\\recipe%")), "Citation")
    assert "recipe my recipe, seed 7" in text
    assert "{\\'e}" in section(card(tmp_path / "p", build=facts(pokemon=True)), "Citation")
    (content,) = re.findall(r"[0-9a-f]{64}", text)
    assert content not in card(tmp_path / "b", {"train": rows(21)})


# Whether it passes.


def test_a_validation_without_findings_passes(tmp_path: Path) -> None:
    text = card(tmp_path, validation=report(skipped=("tokens.length",)))
    assert "**Passes `pkt validate` without findings:** 20 rows" in text
    assert "* tokens.length: no tokenizer" in section(text, "Validation")
    assert "지적 없이 **통과했습니다**" in section(text, "검증 결과")
    assert "NOT pass" not in text


def test_warnings_are_counted(tmp_path: Path) -> None:
    text = card(tmp_path, validation=report(("text.bidi", "warning", 1_234)))
    assert "**Passes `pkt validate`, with warnings.**" in text
    assert "| text.bidi | warning | what text.bidi is | 1,234 |" in text
    assert "| text.bidi | 경고 | 1,234 |" in text


@pytest.mark.parametrize("strict", [False, True])
def test_a_failed_validation_is_the_first_thing_under_the_title(strict: bool, tmp_path: Path) -> None:
    found = ("text.bidi", "warning", 5) if strict else ("leak.own-name", "error", 5)
    text = card(tmp_path, validation=report(found, strict=strict))
    under = text.split("\n# Names from descriptions\n\n")[1]
    assert under.startswith(f"> **This dataset does NOT pass its validation:** {found[0]} (5).")
    assert "**Does NOT pass `pkt validate`" in section(text, "Validation")
    assert ("--strict" in section(text, "Validation")) == strict
    assert "통과하지 못했습니다" in section(text, "개요")
    assert "통과하지 못했습니다" in section(text, "검증 결과")


def test_without_a_validation_nothing_is_claimed(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "## Validation" not in text
    assert "검증 결과" not in text


# Text that means harm.

HOSTILE = (
    "| a | `b` ``` \n---\n# h <script>alert(1)</script> <!-- {{ 7*7 }} {% raw %} [x](http://e.org) "
    "![i](http://e.org/i) \u202egnp.exe\u2066 $x$ @all www.e.org <details> \ud55c\u3164" + "z" * 10_000
)


def shape(text: str) -> list[tuple[str, str]]:
    """The page's skeleton: its blocks, its links and its images."""
    found = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        found.append((token.type, token.tag))
        for child in token.children or []:
            # An empty comment parts an address, so that no reader takes it for one.
            if child.type in ("link_open", "image", "html_inline") and child.content != "<!-- -->":
                found.append((child.type, str(child.attrGet("href") or child.attrGet("src") or child.content)))
    return found


def strange(text: str) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any], dict[str, Any]]:
    """A folder, its facts and its validation with `text` wherever text comes from outside."""
    its = [row(n, description=text, answer=text, license=text, creature=f"{text}/{n}") for n in range(12)]
    its = [{**one, "messages": [{"role": "user", "content": text}, *one["messages"][1:]]} for one in its]
    build = facts(
        source("hub", location=text, revision=text, license=text, content_hash=text, notes=[text]),
        source("table", location=text),
        license=text,
        recipe=text,
        dropped={"new": {"rows": 1, "what": text}},
        settings={"mask": text, "other_mask": text, "system": text},
    )
    validation = report((text, "error", 1)) | {"skipped": [{"code": text, "reason": text}]}
    return {"train": its, "unseen": its}, build, validation


def test_hostile_text_changes_nothing_but_the_text(tmp_path: Path) -> None:
    plain, hostile = (card(tmp_path / name, *strange(text)) for name, text in (("a", "benign"), ("b", HOSTILE)))
    assert shape(hostile) == shape(plain)
    assert "49" not in re.sub(r"[0-9a-f]{64}", "", hostile).split("## Citation")[1].split("```")[1]
    assert "\u202e" not in hostile
    assert max(map(len, hostile.splitlines())) < 8_000
    html = render_markdown(hostile)
    assert "<script" not in html
    assert "{{ 7*7 }}" in html


def test_hostile_text_stays_out_of_the_front_matter(tmp_path: Path) -> None:
    card(tmp_path / "a", *strange("benign"))
    card(tmp_path / "b", *strange(HOSTILE))
    assert metadata_load(tmp_path / "a" / "README.md") == metadata_load(tmp_path / "b" / "README.md")


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_a_damaged_or_empty_folder_is_an_error_that_says_so(damage: str, tmp_path: Path) -> None:
    card(tmp_path)
    file = tmp_path / "data" / "train-00000-of-00001.parquet"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        pq.write_table(SCHEMA.empty_table(), file)
    with pytest.raises(InputError, match="not a readable Parquet file" if damage == "cut" else "has no rows"):
        write_card(tmp_path, facts())


# The figures.


def alt(text: str, figure: str) -> str | None:
    """What the card says that a figure shows, None when it has none."""
    found = re.search(rf"!\[([^\]]*)\]\(figures/{figure}\.png\)", text)
    return found[1] if found else None


def test_lengths_are_told_for_each_language_and_the_image_has_the_card_s_width(tmp_path: Path) -> None:
    text = card(
        tmp_path, {"train": [*rows(10), *rows(10, language="ko", description="가" * 50), row(3, language="ko")]}
    )
    words = alt(text, "lengths") or ""
    assert "English from 16 to 97, half of them from 36 to 77, median 56" in words
    assert "Korean from 43 to 50" in words
    with Image.open(tmp_path / "figures" / "lengths.png") as image:
        assert image.width == 1400
        assert image.convert("RGBA").getpixel((1, 1)) == (255, 255, 255, 255)


def attributed(*attributes: Mapping[str, Any], source: str = "pokeapi") -> list[dict[str, Any]]:
    return [row(n, attributes=json.dumps(each), source=source) for n, each in enumerate(attributes)]


def generations(*numbers: int) -> list[dict[str, Any]]:
    return attributed(*({"generation": number} for number in numbers))


def types(*names: str) -> list[dict[str, Any]]:
    return attributed(*({"generation": 1, "types": [name]} for name in names))


@pytest.mark.parametrize(
    ("its", "seen"),
    [
        (generations(10, 10, 10, 2, 2, 2, 2), "by generation, stacked by split: 2 (4), 10 (3)."),
        ([*generations(1, 1, 1, 2, 2), *attributed({})], "stacked by split: 1 (3), 2 (2), not known (1)."),
        ([*generations(1, 1), *rows(3)], "by source, stacked by split: table (3), pokeapi (2)."),
        ([*generations(1, 2), *rows(3)], "by source, stacked by split: table (3), pokeapi (2)."),
        (types("ice", "ice", "bug"), "by type, stacked by split: ice (2), bug (1)."),
        (rows(8), "rows of each creature: from 1 to 2"),
        (types("풀", "$x$", "풀", "불", "풀", "풀"), "rows of each creature: from 1 to 2"),
    ],
    ids=["generations", "some unknown", "one generation", "most unknown", "types", "creatures", "letters of no font"],
)
def test_the_rows_are_drawn_by_what_tells_most(its: list[dict[str, Any]], seen: str, tmp_path: Path) -> None:
    assert seen in str(alt(card(tmp_path, {"train": its}), "rows"))


def test_a_figure_of_one_bar_is_not_drawn_and_an_old_one_does_not_stay(tmp_path: Path) -> None:
    card(tmp_path)
    assert (tmp_path / "figures" / "lengths.png").is_file()
    text = card(tmp_path, {"train": [row(n, description="A small dog.") for n in range(5)]})
    assert alt(text, "lengths") is None
    assert alt(text, "rows") is None
    assert not list(tmp_path.glob("figures/*"))


def test_one_long_description_does_not_squeeze_the_others(tmp_path: Path) -> None:
    text = card(tmp_path, {"train": [*rows(400), row(1, description="x" * 100_000)]})
    assert "from 16 to 100,000, half of them" in str(alt(text, "lengths"))
    with Image.open(tmp_path / "figures" / "lengths.png") as image:
        pixels = image.convert("RGB").load()
        blue = [x for x in range(image.width) for y in (image.height // 2,) if pixels[x, y] == (0, 114, 178)]
    assert max(blue) - min(blue) > image.width / 2


def test_the_same_folder_and_facts_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        card(tmp_path / name, {"train": rows(), "test": rows(6), "unseen": rows(5)}, validation=report())
        hashes.append(file_hashes(tmp_path / name))
    assert hashes[0] == hashes[1]
    assert {"README.md", "figures/lengths.png", "figures/rows.png"} <= hashes[0].keys()


# The templates.


@pytest.mark.parametrize("template", [file.name for file in TEMPLATES])
def test_templates_hold_nothing_but_if_for_and_include_over_ready_values(template: str) -> None:
    text = (files("toolkit.cards.dataset_templates") / template).read_text(encoding="utf-8")
    statements = set(re.findall(r"{%[-+]? *(\w+)", text))
    assert statements <= {"if", "elif", "else", "endif", "for", "endfor", "include"}
    assert not re.findall(r"{{[^}]*[|(]", text)


def test_no_line_of_the_card_is_blank_twice(tmp_path: Path) -> None:
    splits = {"train": [*rows(), *rows(9, language="ko")], "unseen": rows(4)}
    for number, build in enumerate((facts(), facts(source("corpus"), source("pokeapi"), pokemon=True))):
        for validation in (None, report(), report(("dup.near", "error", 3), skipped=("a",))):
            assert "\n\n\n" not in card(tmp_path / f"{number}", splits, build, validation)
