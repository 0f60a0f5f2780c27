"""Foreign text in a card reads as it is and never becomes Markdown or HTML."""

from __future__ import annotations

import ast
from html import unescape

import pytest
from cmarkgfm import github_flavored_markdown_to_html
from cmarkgfm.cmark import Options
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from toolkit.cards.escape import fence, md_cell, md_text, plain, python_literal

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
SYNTAX = st.sampled_from(
    [
        *("|", "\\|", "`", "```", "~~~", "<bos>", "<!--", "<details>", "![x](http://e.org/x.png)", "[a](b)", "$x$"),
        *("---", "***", "===", "# ", "> ", "- ", "1. ", "1)", "    ", "\t", "&lt;", "&#124;", "\n", "\r\n", "@name"),
        *("\u200b", "\u2028", "\u202e", "\ud800", "\x00", "\ufeff", "~~a~~", "**b**", "_c_", "a_b", "__", "[^1]"),
        *("<http://e.org>", "http://e.org", "\\", "\u3164", "한글", "Pikachu", "0.5"),
    ]
)
texts = st.lists(st.one_of(SYNTAX, st.text(max_size=6)), max_size=8).map("".join)


def inline(tokens: list[Token]) -> list[Token]:
    return [child for token in tokens for child in token.children or []]


def shown(tokens: list[Token]) -> str:
    return "".join(child.content for child in inline(tokens) if child.type != "html_inline")


def kinds(tokens: list[Token]) -> set[str]:
    """Types of what stands in a line, without the empty comments that part addresses."""
    return {child.type for child in inline(tokens) if (child.type, child.content) != ("html_inline", "<!-- -->")}


@given(texts)
@example("a\\|b")
@example("www.e.org")
def test_a_cell_stays_one_cell_and_shows_exactly_its_text(text: str) -> None:
    tokens = MARKDOWN.parse(f"| a | b | c |\n|---|---|---|\n| 1 | {md_cell(text)} | 3 |\n")
    cells = [tokens[index + 1] for index, token in enumerate(tokens) if token.type == "td_open"]
    assert [shown([cell]) for cell in cells] == ["1", plain(text) or "–", "3"]
    assert kinds(tokens) <= {"text", "text_special"}


@given(texts)
@example("---")
@example("1. a")
@example("- a")
def test_text_stays_one_paragraph_and_shows_exactly_itself(text: str) -> None:
    tokens = MARKDOWN.parse(f"before\n\n{md_text(text)}\n")
    assert {token.type for token in tokens} == {"paragraph_open", "inline", "paragraph_close"}
    assert shown(tokens[3:]) == plain(text)
    assert kinds(tokens) <= {"text", "text_special"}


@given(texts)
def test_text_under_a_line_does_not_turn_that_line_into_a_heading(text: str) -> None:
    assert not any(token.type == "heading_open" for token in MARKDOWN.parse(f"before\n{md_text(text)}\n"))


@given(texts)
def test_a_fence_is_closed_by_nothing_in_its_text(text: str) -> None:
    tokens = MARKDOWN.parse(f"{fence(text, 'text')}\n\nafter\n")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert "\u2028" not in tokens[0].content
    assert "\u202e" not in tokens[0].content


@given(texts)
def test_a_python_literal_is_the_text_again_and_is_printable(text: str) -> None:
    literal = python_literal(text)
    assert ast.literal_eval(literal) == text
    assert literal.isprintable()


@given(texts)
def test_no_formula_mention_or_address_is_left_for_other_readers(text: str) -> None:
    escaped = md_text(text)
    assert not set(escaped.replace("<!-- -->", "")) & set("|<>$@")
    assert "://" not in escaped


@given(texts)
@example("write to a@evil.example or xmpp:a@evil.example")
@example("http://evil.example, WWW.evil.example and ftp://evil.example")
def test_no_address_becomes_a_link_where_entities_are_read_first(text: str) -> None:
    page = github_flavored_markdown_to_html(f"x {md_text(text)}\n", Options.CMARK_OPT_UNSAFE)
    assert "<a " not in page
    assert unescape(page.replace("<!-- -->", "")).strip() == f"<p>{f'x {plain(text)}'.strip()}</p>"


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff", "\U000e0041", "\u3164", "\x07"])
def test_invisible_characters_are_left_out(hidden: str) -> None:
    assert md_text(f"Pika{hidden}chu") == "Pikachu"
    assert hidden not in fence(f"Pika{hidden}chu")


def test_ordinary_text_is_left_readable() -> None:
    description = "A small mouse-like creature (0.4 m tall), with red cheeks: it stores electricity."
    assert md_text(description) == description
    assert md_text("다음 특성을 살린 이름을 지어줘:") == "다음 특성을 살린 이름을 지어줘:"


def test_a_long_text_is_cut_with_an_ellipsis_before_it_is_escaped() -> None:
    assert md_cell("<" * 50, limit=3) == "&#60;&#60;…"
    assert unescape(md_cell("a  b", limit=3)) == "a b"
