"""The Hub for human eyes: the list of repositories, and of each its card, its files and its commits."""

import base64
import hashlib
import http
import posixpath
from functools import cache
from importlib.resources import files as resources
from urllib.parse import quote, unquote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from toolkit.cards.page import CARDS, card_html, metadata_html, style
from toolkit.core import size
from toolkit.hub.local.api import card_data, card_text, metadata
from toolkit.hub.local.files import listing
from toolkit.hub.local.history import Commit
from toolkit.hub.local.objects import (
    KINDS,
    MAIN,
    FileEntry,
    RefusedError,
    Repository,
    Tree,
    check_path,
    entry_not_found,
    parent_folders,
)
from toolkit.hub.local.request import Call, bad_token, whole_number
from toolkit.hub.local.store import find_pull

LONGEST_TEXT = 200_000  # bytes
_LANGUAGES = dict(zip(CARDS, ("English", "한국어"), strict=True))
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")
_PAGES = Environment(
    loader=PackageLoader("toolkit.hub.local", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def front(call: Call) -> Response:
    """Every repository that the visitor may see."""
    kinds = []
    for kind in KINDS:
        if found := [_summary(call, each) for each in call.store.repositories(kind) if call.may_see(each)]:
            kinds.append((kind.capitalize(), found))
    nothing = f"There is nothing yet{'' if call.user else ' that everybody may read'}."
    return _page(
        "list", title="Local Hub", user=call.user, heading="Repositories", lists=kinds, note=None if kinds else nothing
    )


def repository(call: Call) -> Response:
    """The card of a repository's main branch."""
    return _card(call, *call.commit(), CARDS[0])


def tree(call: Call) -> Response:
    """One folder of a revision, folders first; also at the address of a commit, which clients print."""
    found, commit = call.commit()
    folder = call.args.get("path", "").strip("/")
    inside, files = listing(commit, folder), commit.files.below(folder).values()
    shown = sorted(inside, key=lambda path: isinstance(inside[path], FileEntry))
    entries = [_entry(call, found, path, inside[path]) for path in shown]
    total = f"{len(files):,} file{'s' * (len(files) != 1)}, {size(sum(each.size for each in files))}"
    crumbs = _crumbs(call, found, folder)
    return _repository_page(call, found, "list", "Files", crumbs=crumbs, lists=[("", entries)], note=total)


def file(call: Call) -> Response:
    """One file: a card rendered, an image shown, a text with its lines."""
    found, commit = call.commit()
    path = check_path(call.args.get("path", ""))
    entry = commit.files.get(path)
    if entry is None:
        if commit.files.below(path):
            return RedirectResponse(_address(found, "tree", call.revision, path))
        raise entry_not_found(f"{path} does not exist on {call.revision}")
    if path not in CARDS:
        call.require_files(found)
    if path.endswith(".md") and entry.size <= LONGEST_TEXT:
        return _card(call, found, commit, path)
    return _repository_page(
        call,
        found,
        "file",
        "Files",
        crumbs=_crumbs(call, found, posixpath.dirname(path)),
        label=posixpath.basename(path),
        size=size(entry.size),
        sha256=entry.sha256,
        raw=_address(found, "resolve", call.revision, path),
        image=path.lower().endswith(_IMAGES),
        lines=_lines(call, found, entry),
    )


def commits(call: Call) -> Response:
    """The commits of a revision, newest first, each with its files."""
    found = call.readable()
    entries = [
        {
            "label": each.title or "(without a title)",
            "address": _address(found, "tree", each.id),
            "note": f"{each.id[:8]} · {each.author} · {_moment(each.date)}",
        }
        for each in call.store.ancestry(found, call.revision)
    ]
    return _repository_page(call, found, "list", "Commits", lists=[("", entries)])


def pull_request(call: Call) -> Response:
    """Lead from the address of a pull request, which clients print, to its files."""
    found = call.readable()
    pull = find_pull(found, whole_number(call.args["number"]))
    return RedirectResponse(_address(found, "tree", pull.ref))


def login(call: Call) -> Response:
    """Make a browser ask for the token, and send it back to the front page."""
    if call.user is None:
        raise bad_token(ask_browser=True)
    return RedirectResponse("/", 303)


def refused(error: RefusedError) -> Response:
    """A refusal, for a person."""
    title = f"{error.status} {http.HTTPStatus(error.status).phrase}"
    page = _page("list", title=title, user=None, heading=title, lists=[], note=f"{error.message}.")
    page.status_code = error.status
    page.headers.update(error.headers)
    return page


def _page(template: str, *, title: str, user: str | None, **values: object) -> Response:
    """A page that runs no script and loads nothing from elsewhere, whatever a card holds."""
    css, policy = _style()
    shown = {"home": None, "crumbs": [], "heading": None, "note": None, **values}
    content = _PAGES.get_template(f"{template}.jinja").render(style=css, title=title, user=user, **shown)
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
    # YAML escapes can spell lone surrogates.
    return Response(content.encode("utf-8", "replace"), headers=headers, media_type="text/html")


@cache
def _style() -> tuple[Markup, str]:
    """The style sheet, and the policy that allows it by its hash, and alignments in tables, which are attributes."""
    css = style() + (resources("toolkit.hub.local") / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; img-src 'self'; style-src-elem 'sha256-{digest}'; style-src-attr 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Markup(css), policy  # our own files


def _repository_page(call: Call, found: Repository, template: str, tab: str, **values: object) -> Response:
    home = found.repo.url_path
    tabs = {"Card": home, "Files": f"{home}/tree/main", "Commits": f"{home}/commits/main"}
    return _page(
        template,
        title=str(found.repo),
        user=call.user,
        kind=found.repo.kind.removesuffix("s"),
        home=home,
        marks=_marks(found),
        tabs=[(label, address, label == tab) for label, address in tabs.items()],
        revision=call.revision,
        **values,
    )


def _card(call: Call, found: Repository, made: Commit, path: str) -> Response:
    text, folder = card_text(call, found, made, path), posixpath.dirname(path)
    others = [
        (label, _address(found, "blob", call.revision, name), name == path)
        for name, label in _LANGUAGES.items()
        if path in CARDS and made.files.get(name)
    ]

    def image(address: str) -> str | None:
        inside = _path_in_repository(address, folder)
        return None if inside is None else _address(found, "resolve", call.revision, inside)

    def link(address: str) -> str:
        inside = _path_in_repository(address, folder)
        return address if inside is None else _address(found, "blob", call.revision, inside)

    return _repository_page(
        call,
        found,
        "card",
        "Card" if path in CARDS else "Files",
        cards=others,
        korean=path.endswith(".ko.md"),
        metadata=Markup(metadata_html(card_data(call, found, made, path))),  # escaped there
        card=None if text is None else Markup(card_html(text, image, link)),  # sanitised there
    )


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


def _summary(call: Call, found: Repository) -> dict[str, object]:
    last = call.store.commit_at(found, MAIN)
    data = metadata(call, found, last)
    named = [str(data[name]) for name in ("license", "pipeline_tag", "library_name") if isinstance(data.get(name), str)]
    return {
        "label": str(found.repo),
        "address": found.repo.url_path,
        "marks": _marks(found),
        "badges": named,
        "note": f"{last.title} · {_moment(last.date)}",
    }


def _entry(call: Call, found: Repository, path: str, entry: FileEntry | Tree) -> dict[str, object]:
    label = posixpath.basename(path)
    if not isinstance(entry, FileEntry):
        return {"label": f"{label}/", "address": _address(found, "tree", call.revision, path)}
    return {
        "label": label,
        "address": _address(found, "blob", call.revision, path),
        "raw": _address(found, "resolve", call.revision, path),
        "size": size(entry.size),
        "lfs": entry.lfs,
    }


def _lines(call: Call, found: Repository, entry: FileEntry) -> list[str] | None:
    """The lines of a text; None for what is binary or long."""
    if entry.size > LONGEST_TEXT:
        return None
    content = call.store.blob(found.repo, entry.sha256).read_bytes()
    return None if b"\0" in content else content.decode("utf-8", "replace").splitlines()


def _marks(found: Repository) -> list[str]:
    return ["private"] * found.private + ["gated"] * (found.gated is not None)


def _crumbs(call: Call, found: Repository, folder: str) -> list[tuple[str, str]]:
    """The folders above, each with its page."""
    folders = [*parent_folders(folder), folder] if folder else []
    root = (found.repo.name, _address(found, "tree", call.revision))
    return [root, *((posixpath.basename(each), _address(found, "tree", call.revision, each)) for each in folders)]


def _address(found: Repository, what: str, revision: str, path: str = "") -> str:
    return f"{found.repo.url_path}/{what}/{quote(revision, safe='')}" + (f"/{quote(path)}" if path else "")


def _moment(date: str) -> str:
    """`2026-05-01 12:30 UTC`, from a date as the API writes it."""
    return f"{date[:10]} {date[11:16]} UTC"
