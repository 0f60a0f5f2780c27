"""A card's page shows the card, holds all it needs, and runs nothing."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from toolkit.cards.page import card_html, front_matter, render_markdown, render_page, write_preview
from toolkit.core.errors import InputError

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


def folder_with(path: Path, card: str, korean: str | None = None) -> Path:
    (path / "figures").mkdir(parents=True)
    (path / "figures" / "loss plot.png").write_bytes(PIXEL)
    (path / "README.md").write_text(card, encoding="utf-8")
    if korean is not None:
        (path / "README.ko.md").write_text(korean, encoding="utf-8")
    return path


def test_tables_folded_parts_and_relative_images_are_kept_and_the_front_matter_is_not_shown() -> None:
    html = render_markdown(
        "---\nlicense: mit\n---\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n"
        "<details><summary>More</summary>\n\n**bold**\n\n</details>\n\n![loss](figures/loss.png)"
    )
    assert html.startswith("<table>")
    assert '<td style="text-align:right">2</td>' in html
    assert "<details><summary>More</summary>" in html
    assert "<strong>bold</strong>" in html
    assert 'src="figures/loss.png"' in html


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        '<img src="x" onerror="alert(1)">',
        "[x](javascript:alert(1))",
        '<a href="&#106;avascript:alert(1)">x</a>',
        '<a href="data:text/html,<script>alert(1)</script>">x</a>',
        '<iframe src="https://elsewhere.example"></iframe>',
        '<svg onload="alert(1)"><script>alert(1)</script></svg>',
        '<form action="/api/repos/delete"><button>x</button></form>',
        '<style>body { background: url("https://elsewhere.example") }</style>',
        '<table><tr><td style="background: url(javascript:alert(1)); position: fixed">x</td></tr></table>',
        '<base href="https://elsewhere.example"><meta http-equiv="refresh" content="0; url=https://elsewhere.example">',
    ],
)
def test_nothing_that_a_browser_would_run_is_kept(attack: str) -> None:
    html = render_markdown(attack).lower()
    traces = ("<script", " on", 'href="java', 'href="data', "<iframe", "<svg", "<form", "<style", "url(", "position")
    assert not [trace for trace in (*traces, "<base", "<meta") if trace in html]


def test_front_matter_is_read_as_plain_values() -> None:
    text = "---\r\nlicense: mit\r\ndate: 2024-05-01\r\nscore: .nan\r\ntags: [a, 2]\r\n---\r\nbody"
    assert front_matter(text) == {"license": "mit", "date": "2024-05-01", "score": "NaN", "tags": ["a", 2]}


@pytest.mark.parametrize("text", ["", "# Title", "--- \n---\n", "---\nnever: closed\n", "text\n---\na: 1\n---\n"])
def test_without_front_matter_there_are_no_values(text: str) -> None:
    assert front_matter(text) == {}


@pytest.mark.parametrize("block", ["a: [", "- a", "just text", "a: 2024-13-45", "a: !!python/object:os.system x"])
def test_broken_front_matter_is_a_value_error(block: str) -> None:
    with pytest.raises(ValueError, match="front matter"):
        front_matter(f"---\n{block}\n---\n")


def test_addresses_become_those_of_the_page_and_headings_can_be_linked_to() -> None:
    card = "## Was *es* tut?\n\n[there](a&b.md) ![x](figures/x.png) ![y](https://e.org/y.png) ![z](gone.png)"
    html = card_html(card, {"figures/x.png": '/r/x.png?"'}.get, lambda address: f"/files/{address}")
    assert '<h2 id="was-es-tut">' in html
    assert 'href="/files/a&amp;b.md"' in html
    assert 'src="/r/x.png?&quot;"' in html
    assert '<a class="elsewhere" href="https://e.org/y.png"' in html
    assert "no such image here: gone.png z" in html


def test_local_images_are_inlined_and_nothing_is_fetched(tmp_path: Path) -> None:
    card = "![a](<figures/loss plot.png>) ![b](figures/loss%20plot.png) ![c](https://e.org/x.png) ![d](gone.png)"
    page = render_page(folder_with(tmp_path / "card", card))
    assert page.count("data:image/png;base64," + base64.b64encode(PIXEL).decode()) == 2
    assert page.count('class="elsewhere"') == 2
    assert not re.search(r'\bsrc="(?!data:)', page)


@pytest.mark.parametrize(
    "address", ["../secret.png", "/etc/passwd", "..%2Fsecret.png", "manifest.json", "a%00b.png", "link.png"]
)
def test_nothing_but_images_inside_the_folder_is_read(address: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PIXEL)
    folder = folder_with(tmp_path / "card", f"![x]({address})")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert "data:image" not in render_page(folder)


def test_the_front_matter_is_a_box_and_not_text_of_the_card(tmp_path: Path) -> None:
    card = "---\nlicense: gemma\nlanguage:\n- ko\n- en\nconfigs:\n- config_name: <b>x</b>\n---\n\n# Title\n"
    page = render_page(folder_with(tmp_path / "card", card))
    assert "<dt>license</dt><dd>gemma</dd>" in page
    assert page.count('class="chip"') == 2
    assert "<b>x</b>" not in page
    assert '<h1 id="title">Title</h1>' in page
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
    assert 'id="README.ko.md" lang="ko">' in page
    assert 'href="#README.ko.md"' in page
    assert 'href="#README.md"' in page


def test_wide_tables_scroll_and_braces_are_shown_as_they_are(tmp_path: Path) -> None:
    page = render_page(folder_with(tmp_path / "card", "{title} {0} \\1 %s $x$\n\n| a |\n|---|\n| b |\n"))
    assert "{title} {0} \\1 %s $x$" in page
    assert '<div class="wide"><table>' in page
    assert "width=device-width" in page


def test_a_folder_without_a_card_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no README\.md"):
        render_page(tmp_path)
    folder = folder_with(tmp_path / "card", "---\n- a list\n---\n")
    with pytest.raises(InputError, match="front matter"):
        render_page(folder)
    (folder / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"README\.md is not UTF-8 text"):
        render_page(folder)


def test_the_page_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "card", "# Title")
    out = write_preview(folder, tmp_path / "new" / "page.html")
    assert out.read_text(encoding="utf-8") == render_page(folder)
    with pytest.raises(InputError, match="cannot be written"):
        write_preview(folder, out / "page.html")
