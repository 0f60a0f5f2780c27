"""Discussions and pull requests as the clients ask for them."""

from typing import Any

from starlette.responses import Response

from toolkit.cards.page import render_markdown
from toolkit.hub.local import pulls
from toolkit.hub.local.call import Call, answer, text_field, whole_number
from toolkit.hub.local.changes import MOST_COMPARED, changes, line_diff
from toolkit.hub.local.objects import Discussion, Repository
from toolkit.hub.local.refusal import RefusedError, malformed

PAGE = 50
_STATUSES = {"open": ("open", "draft"), "closed": ("closed", "merged")}


def listing(call: Call) -> Response:
    """One page, newest first, narrowed by `type`, `status` and `author`."""
    repository = call.readable()
    query = call.request.query_params
    wanted_type, wanted_status, author = (query.get(name) for name in ("type", "status", "author"))
    found = [
        each
        for each in reversed(repository.discussions)
        if wanted_type in (None, "all", "pull_request" if each.head else "discussion")
        and (wanted_status in (None, "all") or each.status in _STATUSES.get(str(wanted_status), ()))
        and author in (None, each.author)
    ]
    first = whole_number(query.get("p", "0")) * PAGE
    shown = [_describe(repository, each) for each in found[first : first + PAGE]]
    return answer({"discussions": shown, "count": len(found), "start": first})


def details(call: Call) -> Response:
    repository, discussion = _discussion(call)
    described = _describe(repository, discussion) | {"events": [_event(each) for each in discussion.events]}
    if discussion.head is not None:
        described["changes"] = {"base": "refs/heads/main", "mergeCommitId": discussion.merged}
        described["filesWithConflicts"] = (
            pulls.conflicts(call.store, repository, discussion) if discussion.is_open else []
        )
        if call.flag("diff") and call.may_open(repository):
            described["diff"] = _diff(call, repository, discussion)
    return answer(described)


def create(call: Call) -> Response:
    wanted = call.json()
    repository, author = call.readable(), call.require_user()
    started = pulls.start(
        call.store,
        repository.repo,
        _title(wanted, "title"),
        text_field(wanted, "description", ""),
        author,
        is_pull=wanted.get("pullRequest") is True,
    )
    return answer({"num": started.number, "url": call.endpoint + discussion_path(repository, started)})


def comment(call: Call) -> Response:
    repository, discussion = _discussion(call)
    text, author = text_field(call.json(), "comment"), call.require_user()
    event = pulls.note(call.store, repository.repo, discussion.number, author, "comment", text=text)
    return answer({"newMessage": _event(event)})


def rename(call: Call) -> Response:
    repository, discussion = _discussion(call)
    author, new = _require_part(call, discussion), _title(call.json(), "title")
    event = pulls.note(
        call.store, repository.repo, discussion.number, author, "title-change", old=discussion.title, new=new
    )
    return answer({"newTitle": _event(event)})


def set_status(call: Call) -> Response:
    repository, discussion = _discussion(call)
    wanted = call.json()
    author, status = _require_part(call, discussion), text_field(wanted, "status")
    if status not in ("open", "closed"):
        raise malformed(f"Unknown status: {status!r}")
    if text := text_field(wanted, "comment", ""):
        pulls.note(call.store, repository.repo, discussion.number, author, "comment", text=text)
    event = pulls.note(call.store, repository.repo, discussion.number, author, "status-change", status=status)
    return answer({"newStatus": _event(event)})


def merge(call: Call) -> Response:
    repository = call.writable()
    author = call.require_writer(repository.repo.namespace)
    commit = pulls.merge(call.store, repository.repo, whole_number(call.args["number"]), author)
    return answer({"mergeCommitId": commit.id})


def discussion_path(repository: Repository, discussion: Discussion) -> str:
    """The path of its page."""
    return f"{repository.repo.url_path}/discussions/{discussion.number}"


def _discussion(call: Call) -> tuple[Repository, Discussion]:
    repository = call.readable()
    return repository, pulls.find(repository, whole_number(call.args["number"]))


def _require_part(call: Call, discussion: Discussion) -> str:
    """The user, when the discussion or the repository is theirs. Raises `RefusedError` (401, 403)."""
    user = call.require_user()
    if user != discussion.author and not call.may_write(call.repo().namespace):
        raise RefusedError(403, f"{user} did not start the discussion {discussion.number}")
    return user


def _title(wanted: dict[str, Any], name: str) -> str:
    title = text_field(wanted, name).strip()
    if not 3 <= len(title) <= 200:
        raise malformed("A title has 3 to 200 characters")
    return title


def _describe(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.created_at,
        "status": discussion.status,
        "isPullRequest": discussion.head is not None,
        "repo": {"name": str(repository.repo), "type": repository.repo.kind.removesuffix("s")},
    }


def _event(event: dict[str, Any]) -> dict[str, Any]:
    by = {"name": event["by"]}
    shown = {"id": event["id"], "type": event["type"], "createdAt": event["at"], "author": by}
    if event["type"] == "comment":
        latest = {
            "raw": event["text"],
            "html": render_markdown(event["text"]),
            "updatedAt": event["at"],
            "author": by,
        }
        return shown | {"data": {"edited": False, "hidden": False, "latest": latest, "history": [latest]}}
    if event["type"] == "commit":
        return shown | {"data": {"subject": event["title"], "oid": event["oid"]}}
    if event["type"] == "title-change":
        return shown | {"data": {"from": event["old"], "to": event["new"]}}
    return shown | {"data": {"status": event["status"]}}


def _diff(call: Call, repository: Repository, pull: Discussion) -> str:
    before, after = (call.store.commit_at(repository, str(each)).files for each in (pull.base, pull.head))
    lines: list[str] = []
    for change in changes(before, after)[:MOST_COMPARED]:
        lines.append(f"diff --git a/{change.old_path} b/{change.path}")
        lines += line_diff(change, lambda sha256: call.store.blob(repository.repo, sha256))
    return "\n".join(lines)
