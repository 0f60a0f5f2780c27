"""Markdown as the Hub shows it: without front matter, with GitHub's tables, and nothing that could run."""

import datetime
import json
import math
import re
from typing import Any

import nh3
import yaml
from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
_ATTRIBUTES = {
    "a": {"href", "title"},
    "code": {"class"},
    "details": {"open"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "td": {"style", "align", "colspan", "rowspan"},
    "th": {"style", "align", "colspan", "rowspan"},
}
_TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "center", "code", "dd", "del", "details", "div", "dl", "dt", "em"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "s", "span", "strong"),
    *("sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
}

_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)
# Explicit tags (`!!int ""`) and impossible dates leave PyYAML as these, not as its own error class.
_BROKEN_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError)
_MAX_VALUES = 100_000  # aliases can unfold a few lines into billions


def render_markdown(text: str) -> str:
    """Sanitised HTML of a document without its front matter. Relative links stay relative."""
    _, body = _split(text)
    return nh3.clean(
        _MARKDOWN.render(body),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        filter_style_properties={"text-align"},
    )


def front_matter(text: str) -> dict[str, Any]:
    """The metadata between the `---` lines that open a document, in JSON's types; empty when there is none.

    Raises `ValueError` when it is not a YAML mapping.
    """
    block, _ = _split(text)
    if block is None:
        return {}
    try:
        value = yaml.safe_load(block)
    except _BROKEN_YAML as error:
        raise ValueError(f"The front matter is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("The front matter must be a mapping of names to values")
    try:
        plain: dict[str, Any] = _plain(value, [0])
        json.dumps(plain)  # refuses integers of too many digits
    except RecursionError as error:
        raise ValueError("The front matter is nested too deep") from error
    return plain


def _split(text: str) -> tuple[str | None, str]:
    """The front matter, if any, and the rest."""
    found = _FRONT_MATTER.match(text)
    return (found[1], text[found.end() :]) if found else (None, text)


def _plain(value: Any, count: list[int]) -> Any:
    """`value` in JSON's types. `count` holds how many values were met."""
    count[0] += 1
    if count[0] > _MAX_VALUES:
        raise ValueError("The front matter has too many values")
    if isinstance(value, dict):
        return {str(name): _plain(each, count) for name, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each, count) for each in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value
