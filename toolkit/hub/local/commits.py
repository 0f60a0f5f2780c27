"""The history of a repository: what a commit would upload, the commit itself, and the list of them."""

import base64
import binascii
import html
import re
from typing import Any

from starlette.responses import Response

from toolkit.hub.local import pulls
from toolkit.hub.local.body import too_long
from toolkit.hub.local.call import Call, answer, list_field, paged, parse_object, size_field, text_field
from toolkit.hub.local.discussions import discussion_path
from toolkit.hub.local.lfs import belongs_in_lfs
from toolkit.hub.local.names import SHA256, check_path
from toolkit.hub.local.objects import AddFile, AddLfsFile, Commit, Operation, Remove, Repository
from toolkit.hub.local.refusal import malformed
from toolkit.hub.local.store import MAIN


def preupload(call: Call) -> Response:
    """How each file is to be uploaded, and its present id, from which the client knows whether it changed."""
    repository, commit = call.commit()
    _require_committer(call, repository, call.flag("create_pr"))
    answers = []
    for file in list_field(call.json(), "files"):
        path, size = check_path(text_field(file, "path")), size_field(file)
        lfs = belongs_in_lfs(path, size, _decode(text_field(file, "sample", "")))
        known = commit.files.get(path)
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": False,
                "oid": known.etag if known is not None and known.lfs == lfs else None,
            }
        )
    return answer({"files": answers})


def commit(call: Call) -> Response:
    """Newline-separated JSON: a header, then one operation a line. With `create_pr` it becomes a pull request."""
    repository, as_pull = call.readable(), call.flag("create_pr")
    author = _require_committer(call, repository, as_pull)
    if as_pull and call.revision != MAIN:
        raise malformed("A pull request can only be made for the branch main")
    lines = _lines(call)
    if not lines or lines[0].get("key") != "header":
        raise malformed("A commit must start with its header")
    header = _value(lines[0])
    operations = [_operation(line) for line in lines[1:]]
    told: dict[str, Any] = {
        "title": text_field(header, "summary"),
        "message": text_field(header, "description", ""),
        "author": author,
        "parent": _parent(header),
    }
    answered: dict[str, object] = {"success": True, "hookOutput": ""}
    if as_pull:
        made, pull = pulls.propose(call.store, repository.repo, operations, **told)
        answered["pullRequestUrl"] = f"{call.endpoint}{discussion_path(repository, pull)}"
    else:
        made = call.store.commit(repository.repo, call.revision, operations, **told)
        if proposal := repository.pull(call.revision):
            pulls.note(call.store, repository.repo, proposal.number, author, "commit", title=made.title, oid=made.id)
    url = f"{call.endpoint}{repository.repo.url_path}/commit/{made.id}"
    return answer({**answered, "commitOid": made.id, "commitUrl": url})


def _require_committer(call: Call, repository: Repository, as_pull: bool) -> str:
    """The user, when they may commit: every reader to a pull request of their own, else who owns the namespace."""
    call.require_access(repository)
    pull = repository.pull(call.revision)
    if as_pull or (pull is not None and pull.author == call.user):
        return call.require_user()
    return call.require_writer(repository.repo.namespace)


def _lines(call: Call) -> list[dict[str, Any]]:
    lines = [line for line in call.body.split(b"\n") if line.strip()]
    for number, line in enumerate(lines, 1):
        if len(line) > call.limits.line:
            raise too_long(f"Line {number} of the commit", len(line), call.limits.line)
    return [parse_object(line) for line in lines]


def _parent(header: dict[str, Any]) -> str | None:
    """The commit that the branch must still be at: its id or the beginning of it."""
    parent = text_field(header, "parentCommit", "").lower()
    if parent and not re.fullmatch("[0-9a-f]{5,40}", parent):
        raise malformed(f"Not the id of a commit: {parent!r}")
    return parent or None


def history(call: Call) -> Response:
    repository = call.readable()
    commits = list(call.store.history(repository, call.revision))
    return paged(call, [_described(each, call.request.query_params.getlist("expand[]")) for each in commits])


def _described(commit: Commit, expand: list[str]) -> dict[str, object]:
    described: dict[str, object] = {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author}],
        "date": commit.date,
    }
    if "formatted" in expand:
        described["formatted"] = {"title": html.escape(commit.title), "message": html.escape(commit.message)}
    return described


def _operation(line: dict[str, Any]) -> Operation:
    kind, value = line.get("key"), _value(line)
    path = text_field(value, "path")
    if kind == "deletedFolder":
        return Remove(check_path(path.rstrip("/")), is_folder=True)
    check_path(path)
    if kind == "deletedFile":
        return Remove(path, is_folder=False)
    if kind == "file":
        return AddFile(path, _content(value))
    if kind == "lfsFile":
        sha256 = text_field(value, "oid")
        if not SHA256.fullmatch(sha256):
            raise malformed(f"Not a sha256: {sha256!r}")
        return AddLfsFile(path, sha256, None if value.get("size") is None else size_field(value))
    raise malformed(f"Unknown operation: {kind!r}")


def _content(value: dict[str, Any]) -> bytes:
    content = text_field(value, "content")
    if value.get("encoding") == "base64":
        return _decode(content)
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise malformed("The content is not valid text") from None


def _decode(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):  # the latter for text that is not ASCII
        raise malformed("The content is not valid base64") from None


def _value(line: dict[str, Any]) -> dict[str, Any]:
    value = line.get("value")
    if not isinstance(value, dict):
        raise malformed("Each line must have a 'value'")
    return value
