"""How things look on a page: cards with their pictures, metadata, sizes, dates. Knows no request."""

import base64
import hashlib
import html
import json
import posixpath
import re
from functools import cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from toolkit.cards.page import render_markdown

_PAGES = Environment(
    loader=PackageLoader("toolkit.hub.local", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_IMAGE = re.compile(r"<img\b[^>]*>")
_SOURCE = re.compile(r'\bsrc="([^"]*)"')
_ALT = re.compile(r'\balt="([^"]*)"')
_LINK = re.compile(r'(<a\b[^>]*\bhref=")([^"]*)(")')
_HEADING = re.compile(r"<(h[1-6])>(.*?)</\1>", re.DOTALL)
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)


def page(template: str, *, code: int = 200, sends: bool = False, **values: Any) -> Response:
    """A page that can run no script and load nothing from elsewhere, whatever a card may hold.

    `sends`: it may hold a form of the Hub's own.
    """
    style, policy = _style(sends)
    content = _PAGES.get_template(f"{template}.jinja").render(style=style, **values)
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        # Nothing for other sites. With less, a browser would not say that a form comes from here.
        "Referrer-Policy": "same-origin",
    }
    # YAML escapes can spell lone surrogates.
    return Response(content.encode("utf-8", "replace"), code, headers, media_type="text/html")


@cache
def _style(sends: bool) -> tuple[Markup, str]:
    """The style sheet, and the policy that allows it by its hash, and alignments in tables, which are attributes."""
    style = _PAGES.get_template("style.jinja").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    forms = "'self'" if sends else "'none'"
    policy = (
        f"default-src 'none'; img-src 'self'; style-src-elem 'sha256-{digest}'; style-src-attr 'unsafe-inline'; "
        f"base-uri 'none'; form-action {forms}; frame-ancestors 'none'"
    )
    return Markup(style), policy


def card(text: str, home: str, revision: str, folder: str = "") -> Markup:
    """A Markdown file of the repository at `home` as HTML: its pictures are shown, its links lead to pages here."""
    body = render_markdown(text)  # sanitised just there
    body = _IMAGE.sub(lambda found: _image(found[0], home, revision, folder), body)
    body = _HEADING.sub(lambda found: f'<{found[1]} id="{_anchor(found[2])}">{found[2]}</{found[1]}>', body)
    body = _LINK.sub(lambda found: found[1] + _link(found[2], home, revision, folder) + found[3], body)
    return Markup(_TABLE.sub(lambda found: f'<div class="wide">{found[0]}</div>', body))


def _image(tag: str, home: str, revision: str, folder: str) -> str:
    """The tag with the address of the file; in place of a picture from elsewhere, a link to it."""
    source, alt = _SOURCE.search(tag), _ALT.search(tag)
    address = html.unescape(source[1]) if source else ""
    path = _path_in_repository(address, folder)
    if source is not None and path:
        return tag[: source.start(1)] + f"{home}/resolve/{_ref(revision)}/{quote(path)}" + tag[source.end(1) :]
    words = (alt[1] if alt else "") or html.escape(address)
    if not address.startswith(("https://", "http://")):
        return f'<span class="elsewhere">no picture: {words}</span>'
    return (
        f'<a class="elsewhere" href="{html.escape(address)}" rel="noopener noreferrer">a picture elsewhere: {words}</a>'
    )


def _link(address: str, home: str, revision: str, folder: str) -> str:
    path = _path_in_repository(html.unescape(address), folder)
    return address if not path else f"{home}/blob/{_ref(revision)}/{quote(path)}"


def _anchor(heading: str) -> str:
    """What a link in the same text calls a heading: its words in small letters, with hyphens between them."""
    text = html.unescape(re.sub(r"<[^>]*>", "", heading)).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def _path_in_repository(address: str, folder: str) -> str | None:
    """The path that a relative address names; None for any other address, and for one that leads out."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return None
    path = posixpath.normpath(posixpath.join(folder, unquote(parts.path)))
    return None if path.startswith("..") else path


def metadata(values: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The front matter as (name, how it is shown, what is shown)."""
    return [(name, *_value(value)) for name, value in values.items()]


def _value(value: Any) -> tuple[str, Any]:
    if isinstance(value, list) and not any(isinstance(each, dict | list) for each in value):
        return "chips", [str(each) for each in value]
    if isinstance(value, dict | list):
        entries = (
            ", ".join(value) if isinstance(value, dict) else f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
        )
        return "tree", (entries, json.dumps(value, indent=2, ensure_ascii=False))
    return "text", str(value)


def size(count: int) -> str:
    """`0 B`, `812 B`, `4.1 kB`, `5.0 MB`: decimal, as the public Hub counts."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"


def moment(date: str) -> str:
    """`2026-05-01 12:30 UTC`, from a date as the API writes it."""
    return f"{date[:10]} {date[11:16]} UTC"


def _ref(revision: str) -> str:
    return quote(revision, safe="")
