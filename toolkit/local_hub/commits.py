"""The history of a repository: what a commit would upload, the commit itself, and the list of them."""

import base64
import binascii
from typing import Any

from starlette.responses import Response

from toolkit.local_hub.call import Call, answer, list_field, parse_object, size_field, text_field
from toolkit.local_hub.lfs import belongs_in_lfs
from toolkit.local_hub.names import SHA256, check_path
from toolkit.local_hub.objects import AddFile, AddLfsFile, Operation, Remove
from toolkit.local_hub.refusal import malformed


def preupload(call: Call) -> Response:
    """How each file is to be uploaded, and its present id, from which the client knows whether it changed."""
    call.writable()
    _, commit = call.commit()
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
    """Newline-separated JSON: a header, then one operation a line."""
    repository = call.writable()
    if call.flag("create_pr"):
        raise malformed("Pull requests are not supported by the local Hub")
    lines = [parse_object(line) for line in call.body.split(b"\n") if line.strip()]
    if not lines or lines[0].get("key") != "header":
        raise malformed("A commit must start with its header")
    header = _value(lines[0])
    made = call.store.commit(
        repository.repo,
        call.revision,
        [_operation(line) for line in lines[1:]],
        title=text_field(header, "summary"),
        message=text_field(header, "description", ""),
        author=call.require_writer(repository.repo.namespace),
        parent=text_field(header, "parentCommit", "") or None,
    )
    url = f"{call.endpoint}{repository.repo.url_path}/commit/{made.id}"
    return answer({"success": True, "commitOid": made.id, "commitUrl": url, "hookOutput": ""})


def history(call: Call) -> Response:
    repository = call.readable()
    return answer(
        [
            {
                "id": each.id,
                "title": each.title,
                "message": each.message,
                "authors": [{"user": each.author}],
                "date": each.date,
            }
            for each in call.store.history(repository, call.revision)
        ]
    )


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
