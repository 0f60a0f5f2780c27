"""A folder's card as the Hub will show it: one self-contained HTML page, nothing fetched. Knows nothing of Markdown."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from toolkit.cards.markdown import front_matter, render_markdown
from toolkit.core.errors import InputError
from toolkit.core.folder import unwritable

CARDS = ("README.md", "README.ko.md")
IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif", ".webp": "webp"}
IMAGE = re.compile(r"<img\b[^>]*>")
SOURCE = re.compile(r'\bsrc="([^"]*)"')
ALT = re.compile(r'\balt="([^"]*)"')
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{metadata}
{cards}
</body>
</html>
"""

CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --page: #fff; --box: #f6f8fa; --line: #d1d9e0;
  --link: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #f0f6fc; --soft: #9198a1; --page: #0d1117; --box: #151b23;
  --line: #3d444d; --link: #4493f8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 900px; padding: 16px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", sans-serif;
  overflow-wrap: break-word; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 8px 28px 28px; margin-top: 16px; }
article > .file { color: var(--soft); font-size: 13px; border-bottom: 1px solid var(--line); margin: 0 -28px 16px;
  padding: 0 28px 8px; }
h1, h2 { border-bottom: 1px solid var(--line); padding-bottom: .3em; }
h1, h2, h3, h4 { line-height: 1.25; margin: 24px 0 16px; }
h1 { font-size: 2em; } h2 { font-size: 1.5em; } h3 { font-size: 1.25em; }
a { color: var(--link); }
img { max-width: 100%; height: auto; border-radius: 6px; }
code, pre { font: 85%/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono CJK KR", monospace;
  background: var(--box); border-radius: 6px; }
code { padding: .2em .4em; }
pre { padding: 16px; overflow-x: auto; } pre code { padding: 0; font-size: 100%; background: none; }
blockquote { margin: 0; padding: 0 1em; color: var(--soft); border-left: .25em solid var(--line); }
.wide { overflow-x: auto; margin: 16px 0; }
table { border-collapse: collapse; font-size: 15px; overflow-wrap: normal; }
th, td { border: 1px solid var(--line); padding: 6px 13px; vertical-align: top; min-width: 4em; }
tbody tr:nth-child(2n) { background: var(--box); }
summary { cursor: pointer; }
.metadata { border: 1px solid var(--line); border-radius: 8px; background: var(--box); padding: 12px 16px;
  font-size: 14px; }
.metadata dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0; }
.metadata dt { color: var(--soft); } .metadata dd { margin: 0; min-width: 0; }
.metadata pre { margin: 4px 0; padding: 8px; max-height: 20em; overflow: auto; background: var(--page); }
.chip { display: inline-block; border: 1px solid var(--line); border-radius: 1em; padding: 0 .7em;
  margin: 0 4px 4px 0; }
.warning { color: var(--soft); border: 1px dashed var(--line); border-radius: 6px; padding: 4px 8px; }
@media (max-width: 480px) { body { padding: 8px; } article { padding: 8px 14px 14px; }
  article > .file { margin: 0 -14px 12px; padding: 0 14px 8px; } .metadata dl { grid-template-columns: 1fr; gap: 0; }
  .metadata dd { margin-bottom: 8px; } td:first-child { min-width: 12em; } }
"""


def render_page(folder: Path) -> str:
    """The card of a model or dataset folder, and its Korean card when there is one, with local images inlined.

    Raises:
        InputError: The folder has no `README.md`, a card is not UTF-8, or its front matter is not valid.
    """
    if not (folder / "README.md").is_file():
        raise InputError(f"{folder} has no README.md.", "Name a dataset or adapter folder that pkt wrote.")
    texts = {name: _text(folder / name) for name in CARDS if (folder / name).is_file()}
    try:
        metadata = front_matter(texts["README.md"])
    except ValueError as error:
        raise InputError(f"{folder / 'README.md'}: {error}.", "Make the folder again.") from error
    cards = "\n".join(_article(folder, name, text) for name, text in texts.items())
    for name in texts:
        cards = cards.replace(f'href="{name}"', f'href="#{name}"')
    title = html.escape(f"{folder.absolute().name} – preview of the card")
    return PAGE.format(title=title, css=CSS, metadata=_metadata(metadata), cards=cards)


def write_preview(folder: Path, out: Path) -> Path:
    """Write the page to the file `out` and return it.

    Raises:
        InputError: As `render_page`, or `out` can not be written.
    """
    page = render_page(folder)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8", errors="replace")
    except OSError as error:
        raise unwritable(out, error) from error
    return out


def _text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{card} is not UTF-8 text.", "Save it as UTF-8, or make the folder again.") from error


def _article(folder: Path, name: str, text: str) -> str:
    body = IMAGE.sub(lambda found: _image(folder, found[0]), render_markdown(text))
    body = TABLE.sub(lambda found: f'<div class="wide">{found[0]}</div>', body)
    language = ' lang="ko"' if name.endswith(".ko.md") else ""
    return f'<article id="{name}"{language}>\n<p class="file">{name}</p>\n{body}</article>'


def _image(folder: Path, tag: str) -> str:
    """The tag with its image inside; in place of one that is not in the folder, a remark."""
    source = SOURCE.search(tag)
    address = html.unescape(source[1]) if source else ""
    data = _data_uri(folder, address)
    if source is None or data is None:
        alt = ALT.search(tag)
        return f'<span class="warning">image not in this folder: {html.escape(address)} {alt[1] if alt else ""}</span>'
    return tag[: source.start(1)] + data + tag[source.end(1) :]


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
    if not there:
        return None
    kind = IMAGES.get(file.suffix.lower())
    return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}" if kind else None


def _metadata(metadata: dict[str, Any]) -> str:
    """The front matter as a small box; empty when there is none."""
    if not metadata:
        return ""
    rows = "\n".join(f"<dt>{html.escape(key)}</dt><dd>{_value(value)}</dd>" for key, value in metadata.items())
    return f'<section class="metadata" aria-label="metadata"><dl>\n{rows}\n</dl></section>'


def _value(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return "".join(f'<span class="chip">{html.escape(str(item))}</span>' for item in value)
    if isinstance(value, dict | list):
        text = html.escape(json.dumps(value, indent=2, ensure_ascii=False))
        return f"<details><summary>{_summary(value)}</summary><pre>{text}</pre></details>"
    return html.escape(str(value))


def _summary(value: dict[str, Any] | list[Any]) -> str:
    if isinstance(value, dict):
        return html.escape(", ".join(map(str, value)))
    return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}"
