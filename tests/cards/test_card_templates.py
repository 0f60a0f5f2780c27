"""A user's templates stand in for the toolkit's, and a mistake in one is said in one line."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from support.cards import MANIFEST, adapter_folder
from toolkit.cards import model as cards
from toolkit.cards.templates import check_templates, render, shipped, with_templates
from toolkit.core.errors import InputError


def templates(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.md.jinja").write_text(text, encoding="utf-8")
    return folder


def mistake(tmp_path: Path, **texts: str) -> InputError:
    with pytest.raises(InputError) as found:
        cards.card_texts(adapter_folder(tmp_path / "adapter"), MANIFEST, None, templates(tmp_path / "own", **texts))
    assert "\n" not in str(found.value)
    return found.value


def test_a_part_of_one_s_own_takes_the_place_of_that_part_alone(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter")
    whole = cards.card_texts(folder, MANIFEST)
    own = cards.card_texts(folder, MANIFEST, None, templates(tmp_path / "own", citation="## Cite us\n\n{{ title }}\n"))
    assert own["README.md"] == whole["README.md"].split("## Citation")[0] + "## Cite us\n\nby-hand\n"
    assert own["README.ko.md"] == whole["README.ko.md"]


def test_a_folder_with_a_copy_of_every_template_makes_the_same_cards(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for name in shipped():
        (own / name).write_text(
            (files("toolkit.cards.model_templates") / name).read_text(encoding="utf-8"), encoding="utf-8"
        )
    folder = adapter_folder(tmp_path / "adapter")
    assert cards.card_texts(folder, MANIFEST, None, own) == cards.card_texts(folder, MANIFEST)


def test_a_part_that_a_user_added_can_be_included(tmp_path: Path) -> None:
    own = templates(tmp_path / "own", citation='{% include "thanks.md.jinja" %}', thanks="Thanks.\n")
    assert cards.card_texts(adapter_folder(tmp_path / "adapter"), MANIFEST, None, own)["README.md"].endswith(
        "Thanks.\n"
    )


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("one\n\n{{ nonsense }}\n", 3, "'nonsense' is undefined"),
        ("{{ training.nonsense }}\n", 1, "has no attribute 'nonsense'"),
        ("one\n{% if %}\n", 2, "Expected an expression"),
        ("one\n{% for x in y %}\n", 2, "end of template"),
        ("one\n{{ title | nonsense }}\n", 2, "No filter named 'nonsense'"),
        ("{{ title + 1 }}\n", 1, "concatenate str"),
        ("{{ 1 / 0 }}\n", 1, "division by zero"),
        ('a\n{% include "gone.jinja" %}\n', 2, "no template gone.jinja"),
    ],
)
def test_a_mistake_names_the_template_and_the_line(text: str, line: int, what: str, tmp_path: Path) -> None:
    error = mistake(tmp_path, limits=text)
    assert f"{tmp_path / 'own' / 'limits.md.jinja'}, line {line}: " in error.found
    assert what in error.found


def test_a_template_that_includes_itself_is_a_mistake_and_not_a_crash(tmp_path: Path) -> None:
    assert "limits.md.jinja" in str(mistake(tmp_path, limits='{% include "limits.md.jinja" %}'))


@pytest.mark.parametrize("text", ["{{ ''.__class__.__mro__ }}", "{{ title.__init__.__globals__ }}"])
def test_a_template_reaches_no_python(text: str, tmp_path: Path) -> None:
    assert "unsafe" in str(mistake(tmp_path, limits=text))


def test_a_template_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    own = templates(tmp_path / "own")
    (own / "limits.md.jinja").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"limits\.md\.jinja is not UTF-8"):
        cards.card_texts(adapter_folder(tmp_path / "adapter"), MANIFEST, None, own)


def test_a_folder_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        check_templates(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no template"):
        check_templates(templates(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"limit\.md\.jinja is not the template of a part"):
        check_templates(templates(tmp_path / "misspelt", limit="x"))


def test_a_mistake_leaves_the_old_cards_as_they_were(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter")
    (folder / "README.md").write_text("old", encoding="utf-8")
    with pytest.raises(InputError):
        cards.render_model_card(folder, MANIFEST, None, templates(tmp_path / "own", limits="{{ nonsense }}"))
    assert (folder / "README.md").read_text(encoding="utf-8") == "old"
    assert not (folder / "figures").exists()


def test_the_manifest_says_that_a_card_has_templates_of_its_own(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"seed": 7}
    own = templates(tmp_path / "own", limits="x")
    first = with_templates(facts, own)
    (own / "limits.md.jinja").write_text("y", encoding="utf-8")
    second = with_templates(first, own)
    assert len({first["card_templates"], second["card_templates"], None}) == 3
    assert with_templates(second, None) == facts


def test_a_fact_that_is_missing_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(UndefinedError):
        render("model_card.md.jinja", {})
