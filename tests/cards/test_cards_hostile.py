"""Whatever a dataset, a model or a stranger writes, a card keeps its structure: text stays text."""

from __future__ import annotations

import copy
import json
import random
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from support.cards import EVALUATION, LOG, MANIFEST, metadata, score
from toolkit.cards import model as cards
from toolkit.cards.escape import plain
from toolkit.cards.page import render_markdown
from toolkit.core.folder import write_json, write_jsonl

PIECES = [
    *("|", "||", "`", "``", "```", "````\n", "~~~", "---", "\n---\n", "\n\n---\n\n", "===\n", "\n# ", "## x"),
    *("> ", "* ", "1. "),
    *("<b>", "</td>", "<details>", "</details>", "<!--", "-->", "<script>alert(1)</script>", "<bos>"),
    "<img src=x onerror=y>",
    *("{{", "}}", "{{ front_matter }}", "{% raw %}", "{% include 'x' %}", "{#", "${x}", "$(rm -rf ~)", "`id`"),
    *("; rm x", "&&"),
    *("![x](https://evil.example/x.png)", "[a](https://evil.example)", "https://evil.example"),
    *("www.evil.example", "a@evil.example"),
    *("[x]: https://evil.example\n", "<https://evil.example>", "[[x]]", "javascript:alert(1)", "@somebody"),
    *(":smile:", "&lt;b&gt;", "&#124;"),
    *("\u202e", "\u2066", "\u200b", "\ufeff", "\u00ad", "\u2028", "\u2029", "\x85", "\x00", "\x1b[31m", "\r"),
    *("\r\n", "\n", "\t", "\x0c"),
    *("$", "$$x$$", "\\", "\\|", "\\\\", "'", '"', '"""', "''", "%s", "{0}", "*a*", "**", "_", "__x__", "~~"),
    *("^", "#", "+", "-", ":", "!!python/x"),
    *("피카츄", "é", "🦊", "\u0301" * 3, "Nidoran♀", " ", "   ", "a", "Pikachu", "null", "no", "1.0", ".nan"),
    *("? x", "- x", "a: b", "# c"),
]
SURROGATE = "\ud800"


def hostile_texts(seed: int) -> Any:
    """Endless hostile texts, one in twenty of 10,000 characters; each shows something."""
    generator = random.Random(seed)
    while True:
        long = generator.random() < 0.05
        text = "".join(generator.choices(PIECES, k=generator.randint(1, 12))) + "x"
        yield (text * (10_000 // len(text) + 1))[:10_000] + "x" if long else text


def write_folder(folder: Path, texts: Any, surrogate: str) -> tuple[Path, dict[str, Any], str]:
    """A folder, its manifest and its repository id in which every foreign text is the next one of `texts`."""
    evaluation, manifest = copy.deepcopy(EVALUATION), copy.deepcopy(MANIFEST)
    test = evaluation["test"]
    test["methods"][next(texts)] = test["methods"].pop("other/adapter-of-somebody")
    test["groups"] = {
        next(texts): {next(texts) + str(row): {"top1": score(0.1, 0.0, 0.3)} for row in range(2)} for _ in range(2)
    }
    test["confusions"] = [{"answer": next(texts), "said": f"피카츄 {next(texts)}", "rows": 2} for _ in range(10)]
    evaluation["dataset"] = {"id": f"folder {next(texts)}", "revision": next(texts), "content": next(texts)}
    evaluation["unseen"]["methods"]["adapter"][f"a{next(texts)}"] = score(0.1, 0.0, 0.2)
    samples = []
    for row in range(16):
        answer, others = next(texts), [f"{row}{column}{next(texts)}" for column in range(5)]
        samples.append(
            {
                "split": "test" if row < 8 else "unseen",
                "id": next(texts),
                "description": next(texts) + surrogate,
                "answer": answer,
                "greedy": next(texts),
                "names": [next(texts) for _ in range(3)],
                "identified": None if row > 7 else [answer, *others] if row % 2 else others,
            }
        )
    manifest["base"] |= {
        **{key: next(texts) for key in ("revision", "content", "architecture")},
        "id": f"base {next(texts)}",
        "license": f"L{next(texts)}",
    }
    manifest["dataset"] |= {
        **{key: next(texts) for key in ("revision", "content", "license")},
        "id": f"data {next(texts)}",
        "sources": [next(texts), next(texts)],
    }
    manifest["hardware"]["name"] = next(texts)
    manifest["recipe"]["name"] = next(texts)
    manifest["recipe"]["lora"]["target_modules"] = [next(texts), next(texts)]
    manifest["precision"]["overflowed"] = next(texts)
    manifest["training_libraries"] = {"torch": next(texts)}
    manifest |= {"request": next(texts) + surrogate, "system": next(texts), "stop_tokens": [next(texts)]}
    manifest |= {"toolkit": f"9{next(texts)}"}
    write_jsonl(folder / "training_log.jsonl", LOG)
    write_json(folder / "evaluation.json", evaluation)
    lines = (json.dumps(sample) + "\n" for sample in samples)
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder, manifest, f"owner/{next(texts)}"


class Structure(HTMLParser):
    """The tags of a page with what they refer to, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(" ".join([tag, *(f"{key}={value}" for key, value in attrs if key not in ("alt", "class"))]))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")


def calm_texts() -> Any:
    number = 0
    while True:
        number += 1
        yield f"word{number}"


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return cards.card_texts(*write_folder(tmp_path_factory.mktemp("calm"), calm_texts(), ""))


@pytest.mark.parametrize("seed", range(12))
def test_hostile_texts_change_neither_the_structure_nor_the_metadata_of_a_card(
    seed: int, calm: dict[str, str], tmp_path: Path
) -> None:
    folder, manifest, repo_id = write_folder(tmp_path, hostile_texts(seed), SURROGATE)
    wild = cards.card_texts(folder, manifest, repo_id)
    for name, text in wild.items():
        assert Structure(render_markdown(text)).tags == Structure(render_markdown(calm[name])).tags
        assert not {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs")} - {"\n", "\t"}
        assert max(map(len, text.split("\n"))) < 25_000
        text.encode("utf-8")
    found = metadata(wild["README.md"])
    assert found.keys() == metadata(calm["README.md"]).keys()
    assert found["model-index"][0]["name"] == plain(repo_id.partition("/")[2], 96)
    assert (found["license"], found["license_name"]) == ("other", "see-card")
