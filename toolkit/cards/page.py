"""A card as HTML that runs nothing: its text, its metadata as a box, and the page that previews a folder's cards.

`pkt preview` writes such a page; the local Hub shows the same card inside its own pages.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nh3
import yaml
from markdown_it import MarkdownIt

from toolkit.cards.templates import read_text
from toolkit.core.errors import InputError
from toolkit.core.folder import unwritable
from toolkit.core.layout import CARD, KOREAN_CARD

CARDS = (CARD, KOREAN_CARD)
IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}

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
_FRONT_MATTER = re.compile(r"\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)
# Of sanitised HTML, whose attributes are always quoted.
_IMAGE = re.compile(r"<img\b[^>]*>")
_SOURCE = re.compile(r'\bsrc="([^"]*)"')
_ALT = re.compile(r'\balt="([^"]*)"')
_LINK = re.compile(r'(<a\b[^>]*\bhref=")([^"]*)(")')
_HEADING = re.compile(r"<(h[1-6])>(.*?)</\1>", re.DOTALL)
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)


def front_matter(text: str) -> dict[str, Any]:
    """The metadata between the `---` lines that open a card, in JSON's types; empty when there is none.

    Raises:
        ValueError: It is not a YAML mapping.
    """
    try:
        value = json.loads(json.dumps(yaml.safe_load(_split(text)[0]), default=str), parse_constant=str)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"The front matter is not valid YAML: {error}") from error
    if value is not None and not isinstance(value, dict):
        raise ValueError("The front matter must be a mapping of names to values")
    return value or {}


def render_markdown(text: str) -> str:
    """Sanitised HTML of a card without its front matter, with GitHub's tables. Relative links stay relative."""
    return nh3.clean(
        _MARKDOWN.render(_split(text)[1]),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        filter_style_properties={"text-align"},
    )


def card_html(text: str, image: Callable[[str], str | None], link: Callable[[str], str]) -> str:
    """A card's text as the inside of a page: sanitised, headings with ids, tables that scroll.

    Args:
        text: Markdown; its front matter is left out.
        image: Turns an image's address in the card into the one to show it from; None shows a remark in its place.
        link: Turns a link's address in the card into the one that it leads to.
    """
    body = _LINK.sub(
        lambda found: found[1] + html.escape(link(html.unescape(found[2]))) + found[3], render_markdown(text)
    )
    body = _HEADING.sub(lambda found: f'<{found[1]} id="{_anchor(found[2])}">{found[2]}</{found[1]}>', body)
    body = _TABLE.sub(lambda found: f'<div class="wide">{found[0]}</div>', body)
    return _IMAGE.sub(lambda found: _image(found[0], image), body)


def metadata_html(metadata: Mapping[str, Any]) -> str:
    """A card's metadata as a box; empty when there is none."""
    if not metadata:
        return ""
    rows = "\n".join(f"<dt>{html.escape(key)}</dt><dd>{_value(value)}</dd>" for key, value in metadata.items())
    return f'<section class="metadata" aria-label="metadata"><dl>\n{rows}\n</dl></section>'


@cache
def style() -> str:
    """The style sheet of a page that holds cards: `.card`, `.metadata` and what is in them, light and dark."""
    return _file("card.css")


def render_page(folder: Path) -> str:
    """The card of a model or dataset folder, and its Korean card when there is one, with local images inlined.

    Raises:
        InputError: The folder has no `README.md`, a card is not UTF-8, or its front matter is not valid.
    """
    texts = {name: read_text(folder / name) for name in CARDS if (folder / name).is_file()}
    if CARD not in texts:
        raise InputError(f"{folder} has no {CARD}.", "Name a dataset or adapter folder that pkt wrote.")
    try:
        metadata = front_matter(texts[CARD])
    except ValueError as error:
        raise InputError(f"{folder / CARD}: {error}.", "Make the folder again.") from error
    cards = "\n".join(_article(folder, name, text, set(texts)) for name, text in texts.items())
    title = html.escape(f"{folder.absolute().name} – preview of the card")
    return _file("page.html").format(title=title, style=style(), metadata=metadata_html(metadata), cards=cards)


def write_preview(folder: Path, out: Path) -> Path:
    """Write the page to the file `out` and return it.

    Raises:
        InputError: As `render_page`, or `out` cannot be written.
    """
    page = render_page(folder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise unwritable(out, error) from error
    return out


def _file(name: str) -> str:
    return (files("toolkit.cards") / name).read_text(encoding="utf-8")


def _split(text: str) -> tuple[str, str]:
    """The front matter, if any, and the rest."""
    found = _FRONT_MATTER.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _anchor(heading: str) -> str:
    """What a link in the same text calls a heading: its words in small letters, with hyphens between them."""
    text = html.unescape(re.sub(r"<[^>]*>", "", heading)).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def _image(tag: str, image: Callable[[str], str | None]) -> str:
    """The tag with the address to show; without one, a remark, which is a link to an image elsewhere."""
    source, alt = _SOURCE.search(tag), _ALT.search(tag)
    address = html.unescape(source[1]) if source else ""
    shown = image(address) if source else None
    if source is not None and shown is not None:
        return tag[: source.start(1)] + html.escape(shown) + tag[source.end(1) :]
    words = f"{html.escape(address)} {alt[1] if alt else ''}".strip()
    if address.startswith(("https://", "http://")):
        return (
            f'<a class="elsewhere" href="{html.escape(address)}" rel="noopener noreferrer">image elsewhere: {words}</a>'
        )
    return f'<span class="elsewhere">no such image here: {words}</span>'


def _value(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return "".join(f'<span class="chip">{html.escape(str(item))}</span>' for item in value)
    if isinstance(value, dict | list):
        summary = (
            ", ".join(value) if isinstance(value, dict) else f"{len(value)} entr{'y' if len(value) == 1 else 'ies'}"
        )
        text = html.escape(json.dumps(value, indent=2, ensure_ascii=False))
        return f"<details><summary>{html.escape(summary)}</summary><pre>{text}</pre></details>"
    return html.escape(str(value))


def _article(folder: Path, name: str, text: str, cards: set[str]) -> str:
    body = card_html(
        text, lambda address: _data_uri(folder, address), lambda address: f"#{address}" if address in cards else address
    )
    language = ' lang="ko"' if name == KOREAN_CARD else ""
    return f'<article class="card" id="{name}"{language}>\n<p class="file">{name}</p>\n{body}</article>'


def _data_uri(folder: Path, address: str) -> str | None:
    """A local image as a data URI; None for remote ones, other kinds of file, and anything outside the folder."""
    root = folder.resolve()
    try:
        parts = urlsplit(address)
        file = (root / unquote(parts.path)).resolve()
        there = not parts.scheme and not parts.netloc and file.is_relative_to(root) and file.is_file()
    except (ValueError, OSError, RuntimeError):
        # No address, or a path that no file can have: too long, a null character, a circle of links.
        return None
    kind = IMAGES.get(file.suffix.lower())
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}" if there and kind else None
