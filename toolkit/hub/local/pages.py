"""The Hub for human eyes: the list of repositories, and of each its card, its files, its history, what was proposed."""

import http
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from toolkit.hub.local import pulls
from toolkit.hub.local.call import Call, whole_number
from toolkit.hub.local.cards import card_data, card_text
from toolkit.hub.local.changes import LONGEST_TEXT, MOST_COMPARED, Files, changes, line_diff, text_lines
from toolkit.hub.local.discussions import discussion_path
from toolkit.hub.local.names import KINDS, check_path
from toolkit.hub.local.objects import Commit, FileEntry, Repository, parent_folders
from toolkit.hub.local.refusal import RefusedError, entry_not_found
from toolkit.hub.local.shown import card, metadata, moment, page, size
from toolkit.hub.local.store import MAIN

COMMITS = 100  # on one page
CARDS = {"README.md": "English", "README.ko.md": "한국어"}
HEADINGS = {"models": "Models", "datasets": "Datasets", "spaces": "Spaces"}
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg")


def front(call: Call) -> Response:
    """Every repository that the visitor may see."""
    kinds = []
    for kind in KINDS:
        if found := [_summary(call, each) for each in call.store.repositories(kind) if call.may_see(each)]:
            kinds.append((HEADINGS[kind], found))
    return page("front", title="Local Hub", user=call.user, kinds=kinds)


def repository(call: Call) -> Response:
    """The card of a repository's main branch."""
    found, commit = call.commit()
    return _card(call, found, commit, "README.md")


def files(call: Call) -> Response:
    """One folder of a revision."""
    found, commit = call.commit()
    folder = call.args.get("path", "").strip("/")
    start = check_path(folder) + "/" if folder else ""
    inside = {path: entry for path, entry in sorted(commit.files.items()) if path.startswith(start)}
    if folder and not inside:
        raise entry_not_found(f"{folder} does not exist on {call.revision}")
    names = sorted(
        {path[len(start) :].partition("/")[0] for path in inside}, key=lambda name: (start + name in inside, name)
    )
    total = (
        f"{len(inside)} {'file' if len(inside) == 1 else 'files'}, {size(sum(each.size for each in inside.values()))}"
    )
    entries = [_entry(call, found, start + name, inside.get(start + name)) for name in names]
    return _page(
        call, found, "tree", "Files", crumbs=_crumbs(call, found, folder), revision=call.revision, entries=entries,
        summary=total,
    )  # fmt: skip


def file(call: Call) -> Response:
    """One file: a card rendered, a picture shown, a text with its lines."""
    found, commit = call.commit()
    path = check_path(call.args.get("path", ""))
    entry = commit.files.get(path)
    if path not in CARDS:
        call.require_access(found)
    if entry is None:
        if any(each.startswith(path + "/") for each in commit.files):
            return RedirectResponse(_address(found, "tree", call.revision, path))
        raise entry_not_found(f"{path} does not exist on {call.revision}")
    if path.endswith(".md") and entry.size <= LONGEST_TEXT:
        return _card(call, found, commit, path)
    return _page(
        call, found, "file", "Files", crumbs=_crumbs(call, found, str(PurePosixPath(path).parent).removeprefix(".")),
        label=PurePosixPath(path).name, revision=call.revision, size=size(entry.size), sha256=entry.sha256,
        raw=_address(found, "resolve", call.revision, path), image=path.lower().endswith(_IMAGES),
        text=text_lines(entry, lambda sha256: call.store.blob(found.repo, sha256)),
    )  # fmt: skip


def history(call: Call) -> Response:
    """The commits of a revision, newest first."""
    found = call.readable()
    commits = [each for _, each in zip(range(COMMITS + 1), call.store.history(found, call.revision), strict=False)]
    older = _address(found, "commits", commits[COMMITS].id) if len(commits) > COMMITS else None
    shown = [
        {
            "title": each.title or "(without a title)",
            "short": each.id[:8],
            "author": each.author,
            "date": moment(each.date),
            "address": _address(found, "commit", each.id),
            "files": _address(found, "tree", each.id),
        }
        for each in commits[:COMMITS]
    ]
    return _page(call, found, "commits", "History", commits=shown, older=older)


def commit(call: Call) -> Response:
    """What one commit changed."""
    found, made = call.commit()
    call.require_access(found)
    before = call.store.commit_at(found, made.parent) if made.parent else None
    return _page(
        call, found, "commit", "History", heading=made.title or "(without a title)", sha=made.id, author=made.author,
        date=moment(made.date), message=made.message, files=_address(found, "tree", made.id),
        parent=_address(found, "commit", before.id) if before else None,
        **_changes(call, found, before.files if before else {}, made.files, made.id),
    )  # fmt: skip


def discussions(call: Call) -> Response:
    found = call.readable()
    shown = [
        {
            "number": each.number,
            "title": each.title,
            "author": each.author,
            "status": each.status,
            "date": moment(each.created_at),
            "address": discussion_path(found, each),
        }
        for each in reversed(found.discussions)
    ]
    return _page(call, found, "discussions", "Discussions", discussions=shown)


def discussion(call: Call) -> Response:
    """What was said, and, of a pull request, what it would change, for who may read its files."""
    found = call.readable()
    each = pulls.find(found, whole_number(call.args["number"]))
    told: dict[str, Any] = {"shows_changes": False, "conflicts": []}
    if each.head is not None and call.may_open(found):
        before, after = (call.store.commit_at(found, str(sha)).files for sha in (each.base, each.head))
        told |= {"shows_changes": True} | _changes(call, found, before, after, each.head)
        told["conflicts"] = pulls.conflicts(call.store, found, each) if each.is_open else []
    return _page(
        call, found, "discussion", "Discussions", heading=each.title, number=each.number, status=each.status,
        events=[_event(found, event) for event in each.events], **told,
    )  # fmt: skip


def refused(error: RefusedError, user: str | None = None) -> Response:
    """A refusal, for a person."""
    title = f"{error.status} {http.HTTPStatus(error.status).phrase}"
    answered = page("refused", code=error.status, title=title, user=user, message=error.message, status=error.status)
    answered.headers.update(error.headers)
    return answered


def _page(call: Call, found: Repository, template: str, tab: str, **values: Any) -> Response:
    home = found.repo.url_path
    count, gate = sum(each.is_open for each in found.discussions), _gate(call, found)
    tabs = [("Card", home), ("Files", f"{home}/tree/main"), ("History", f"{home}/commits/main")]
    tabs.append((f"Discussions ({count})" if count else "Discussions", f"{home}/discussions"))
    return page(
        template, title=str(found.repo), user=call.user, kind=found.repo.kind.removesuffix("s"), name=str(found.repo),
        home=home, private=found.private, gated=found.gated is not None, gate=gate,
        sends=gate == "question",
        tabs=[(label, address, label.startswith(tab)) for label, address in tabs], **values,
    )  # fmt: skip


def _gate(call: Call, found: Repository) -> str | None:
    """What stands between the visitor and the files: a `login`, the `question`, a `pending` request; None: nothing."""
    if call.may_open(found):
        return None
    return "login" if call.user is None else found.request_status(call.user) or "question"


def _card(call: Call, found: Repository, made: Commit, path: str) -> Response:
    text = card_text(call, found, made, path)
    folder = str(PurePosixPath(path).parent).removeprefix(".")
    cards = [
        (label, _address(found, "blob", call.revision, name), name == path)
        for name, label in CARDS.items()
        if name in made.files and path in CARDS
    ]
    return _page(
        call, found, "card", "Card" if path in CARDS else "Files", cards=cards, korean=path.endswith(".ko.md"),
        metadata=metadata(card_data(call, found, made, path)),
        card=None if text is None else card(text, found.repo.url_path, call.revision, folder),
    )  # fmt: skip


def _summary(call: Call, found: Repository) -> dict[str, Any]:
    last = call.store.commit_at(found, MAIN)
    told = card_data(call, found, last)
    badges = [
        str(told[name]) for name in ("license", "pipeline_tag", "library_name") if isinstance(told.get(name), str)
    ]
    return {
        "name": str(found.repo),
        "address": found.repo.url_path,
        "private": found.private,
        "gated": found.gated is not None,
        "badges": badges,
        "title": last.title,
        "date": moment(last.date),
    }


def _entry(call: Call, found: Repository, path: str, entry: FileEntry | None) -> dict[str, Any]:
    label = PurePosixPath(path).name
    if entry is None:
        return {"label": f"{label}/", "address": _address(found, "tree", call.revision, path), "size": None}
    return {
        "label": label,
        "address": _address(found, "blob", call.revision, path),
        "raw": _address(found, "resolve", call.revision, path),
        "size": size(entry.size),
        "lfs": entry.lfs,
    }


def _changes(call: Call, found: Repository, before: Files, after: Files, after_id: str) -> dict[str, Any]:
    """The files that differ, with their lines as far as they are few."""
    differing = changes(before, after)
    shown = []
    for number, each in enumerate(differing):
        lines = line_diff(each, lambda sha256: call.store.blob(found.repo, sha256)) if number < MOST_COMPARED else []
        sizes = " → ".join(size(entry.size) for entry in (each.was, each.now) if entry is not None)
        address = _address(found, "blob", after_id, each.path) if each.now is not None else None
        shown.append(
            {
                "kind": each.kind,
                "path": each.path,
                "old_path": each.old_path,
                "sizes": sizes,
                "address": address,
                "lines": [(_mark(line), line) for line in lines[2:]],
            }
        )
    return {"changes": shown, "summary": f"{len(shown)} {'file' if len(shown) == 1 else 'files'} changed"}


def _mark(line: str) -> str:
    return {"+": "plus", "-": "minus", "@": "at"}.get(line[:1], "")


def _event(found: Repository, event: dict[str, Any]) -> dict[str, Any]:
    said = {"commit": "committed {title}", "status-change": "made it {status}", "title-change": "renamed it to {new}"}
    comment = card(event["text"], found.repo.url_path, MAIN) if event.get("text") else None
    sentence = said.get(event["type"], "").format_map(event)
    return {"by": event["by"], "date": moment(event["at"]), "comment": comment, "said": sentence}


def _crumbs(call: Call, found: Repository, folder: str) -> list[tuple[str, str]]:
    """The folders above, each with its page."""
    folders = [*parent_folders(folder), folder] if folder else []
    root = (found.repo.name, _address(found, "tree", call.revision))
    return [root, *((PurePosixPath(each).name, _address(found, "tree", call.revision, each)) for each in folders)]


def _address(found: Repository, what: str, revision: str, path: str = "") -> str:
    return f"{found.repo.url_path}/{what}/{quote(revision, safe='')}" + (f"/{quote(path)}" if path else "")
