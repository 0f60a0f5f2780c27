"""The preview is one page that shows the card, holds all it needs, and runs nothing."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from toolkit.cards.preview import render_page, write_preview
from toolkit.core.errors import InputError

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


def folder_with(path: Path, card: str, korean: str | None = None) -> Path:
    (path / "figures").mkdir(parents=True)
    (path / "figures" / "loss plot.png").write_bytes(PIXEL)
    (path / "README.md").write_text(card, encoding="utf-8")
    if korean is not None:
        (path / "README.ko.md").write_text(korean, encoding="utf-8")
    return path


def test_local_images_are_inlined_and_nothing_is_fetched(tmp_path: Path) -> None:
    card = "![a](<figures/loss plot.png>) ![b](figures/loss%20plot.png) ![c](https://e.org/x.png) ![d](gone.png)"
    page = render_page(folder_with(tmp_path / "card", card))
    assert page.count("data:image/png;base64," + base64.b64encode(PIXEL).decode()) == 2
    assert page.count("image not in this folder") == 2
    assert not re.search(r'\bsrc="(?!data:)', page)


@pytest.mark.parametrize("address", ["../secret.png", "/etc/passwd", "..%2Fsecret.png", "manifest.json", "a%00b.png"])
def test_nothing_but_images_inside_the_folder_is_read(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PIXEL)
    folder = folder_with(tmp_path / "card", f"![x]({address})")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    assert "data:image" not in render_page(folder)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PIXEL)
    folder = folder_with(tmp_path / "card", "![x](link.png)")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert "data:image" not in render_page(folder)


def test_the_front_matter_is_a_box_and_not_text_of_the_card(tmp_path: Path) -> None:
    card = "---\nlicense: gemma\nlanguage:\n- ko\n- en\nconfigs:\n- config_name: <b>x</b>\n---\n\n# Title\n"
    page = render_page(folder_with(tmp_path / "card", card))
    assert "<dt>license</dt><dd>gemma</dd>" in page
    assert page.count('class="chip"') == 2
    assert "<b>x</b>" not in page
    assert "<h1>Title</h1>" in page
    assert "<p>license" not in page


def test_scripts_of_a_card_do_not_reach_the_page(tmp_path: Path) -> None:
    card = "---\nlicense: <script>alert(1)</script>\n---\n<script>alert(2)</script>\n\n[x](javascript:alert(3))\n"
    page = render_page(folder_with(tmp_path / "card", card))
    assert "<script" not in page
    assert 'href="javascript:' not in page
    assert "default-src 'none'" in page


def test_the_korean_card_stands_below_and_the_links_between_them_work(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "card", "[한국어](README.ko.md)", korean="# 이름\n\n[English](README.md)")
    page = render_page(folder)
    assert '<article id="README.ko.md" lang="ko">' in page
    assert 'href="#README.ko.md"' in page
    assert 'href="#README.md"' in page


def test_wide_tables_scroll_instead_of_widening_the_page(tmp_path: Path) -> None:
    page = render_page(folder_with(tmp_path / "card", "| a |\n|---|\n| b |\n"))
    assert '<div class="wide"><table>' in page
    assert "width=device-width" in page


def test_a_card_with_braces_and_dollars_is_shown_as_it_is(tmp_path: Path) -> None:
    page = render_page(folder_with(tmp_path / "card", "{title} {0} \\1 %s $x$"))
    assert "{title} {0} \\1 %s $x$" in page


def test_a_folder_without_a_card_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no README\.md"):
        render_page(tmp_path)
    with pytest.raises(InputError, match="front matter"):
        render_page(folder_with(tmp_path / "card", "---\n- a list\n---\n"))


def test_the_page_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "card", "# Title")
    out = write_preview(folder, tmp_path / "new" / "page.html")
    assert out.read_text(encoding="utf-8") == render_page(folder)
    with pytest.raises(InputError, match="can not be written"):
        write_preview(folder, out / "page.html")


@pytest.mark.parametrize("name", ["README.md", "README.ko.md"])
def test_a_card_that_is_not_utf8_is_an_input_error(name: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "card", "# Title")
    (folder / name).write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=rf"{name} is not UTF-8 text"):
        render_page(folder)


def test_an_image_that_no_file_can_be_is_remarked(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "card", f"![a]({'a' * 5000}.png) ![b](circle.png)")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    assert render_page(folder).count("image not in this folder") == 2
