"""The Hub for human eyes: the list of repositories, and a repository's card and files."""

import json
from typing import Any
from urllib.parse import quote

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from toolkit.local_hub.call import Call
from toolkit.local_hub.cards import card_data, card_text
from toolkit.local_hub.names import KINDS
from toolkit.markdown import render_markdown

# Cards are text by strangers; what the sanitiser might miss, the browser still must not run.
_POLICY = (
    "default-src 'none'; img-src 'self' https: data:; style-src 'unsafe-inline'; base-uri 'self'; form-action 'none'"
)

_LAYOUT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ title }}</title>{% block head %}{% endblock %}
<style>
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif }
table { border-collapse: collapse }
td, th { border: 1px solid #d1d9e0; padding: .3rem .7rem; text-align: left }
pre { background: #f6f8fa; padding: 1rem; overflow: auto } img { max-width: 100% }
</style></head>
<body>{% block body %}{% endblock %}</body></html>
"""
_FRONT = """{% extends "layout" %}{% block body %}<h1>Repositories</h1>
{% for kind, repositories in kinds %}{% if repositories %}<h2>{{ kind }}</h2><ul>
{% for each in repositories %}<li><a href="{{ each.repo.url_path }}">{{ each.repo }}</a>
{%- if each.private %} (private){% endif %}</li>
{% endfor %}</ul>{% endif %}{% endfor %}
{% endblock %}
"""
_REPOSITORY = """{% extends "layout" %}{% block head %}<base href="{{ files_url }}">{% endblock %}
{% block body %}<p><a href="/">All repositories</a></p><h1>{{ title }}</h1>
{% if metadata %}<details><summary>Metadata</summary><table>
{% for name, value in metadata %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}</table></details>{% endif %}
<main>{{ card }}</main>
<h2>Files</h2><table><tr><th>path</th><th>bytes</th></tr>
{% for path, url, size in files %}<tr><td><a href="{{ url }}">{{ path }}</a></td><td>{{ size }}</td></tr>
{% endfor %}</table>{% endblock %}
"""
_PAGES = Environment(
    loader=DictLoader({"layout": _LAYOUT, "front": _FRONT, "repository": _REPOSITORY}),
    autoescape=True,
    undefined=StrictUndefined,
)


def front(call: Call) -> Response:
    """Every repository that the visitor may see."""
    kinds = [(kind, [each for each in call.store.repositories(kind) if call.may_see(each)]) for kind in KINDS]
    return _html(_PAGES.get_template("front").render(title="Local Hub", kinds=kinds))


def repository(call: Call) -> Response:
    """The card and the files of a repository's main branch."""
    found, commit = call.commit()
    files_url = f"{found.repo.url_path}/resolve/main/"
    files = [(path, files_url + quote(path), entry.size) for path, entry in sorted(commit.files.items())]
    metadata = [(name, _shown(value)) for name, value in card_data(call, found, commit).items()]
    page = _PAGES.get_template("repository").render(
        title=str(found.repo),
        files_url=files_url,
        metadata=metadata,
        card=Markup(render_markdown(card_text(call, found, commit) or "")),  # sanitised just there
        files=files,
    )
    return _html(page)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _html(page: str) -> Response:
    content = page.encode("utf-8", "replace")  # YAML escapes can spell lone surrogates
    return Response(content, headers={"Content-Security-Policy": _POLICY}, media_type="text/html")
