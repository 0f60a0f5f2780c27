"""The files of a repository: how they are uploaded, committed, listed and read.

Large files take git-lfs' basic transfer: a batch hands out signed addresses, each of which takes one upload.
"""

import base64
import hashlib
import hmac
import mimetypes
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from toolkit.hub.local.history import Commit, last_change
from toolkit.hub.local.objects import (
    MAIN,
    AddFile,
    Change,
    FileEntry,
    Operation,
    RefusedError,
    Remove,
    RepoId,
    Repository,
    Tree,
    check_path,
    entry_not_found,
    git_blob_id,
    is_path,
    lfs_pointer,
    malformed,
    parent_folders,
)
from toolkit.hub.local.request import (
    MAX_BODY,
    Call,
    answer,
    list_field,
    parse_object,
    size_field,
    text_field,
    whole_number,
)
from toolkit.hub.local.store import Store, receive, settle

_LFS_SUFFIXES = (
    *("7z", "arrow", "avi", "bin", "bz2", "ckpt", "flac", "gguf", "gif", "gz", "h5", "jpeg", "jpg", "joblib"),
    *("mlmodel", "model", "mp3", "mp4", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle"),
    *("pkl", "png", "pt", "pth", "rar", "safetensors", "tar", "tflite", "tgz", "wasm", "wav", "webp", "xz"),
    *("zip", "zst"),
)
GIT_ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LFS_SUFFIXES).encode()
UPLOAD_SECONDS = 3600  # until an upload must have begun
_LARGE_TEXT = 10 * 2**20  # bytes
# Files come from whoever pushed them: a browser may show them, but never run them in the Hub's name.
_HARMLESS = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}

# Upload


def preupload(call: Call) -> Response:
    """How each file is to be uploaded, whether `.gitignore` leaves it out, and its present id, which tells a change.

    The `.gitignore` is the client's, if it is to be uploaded too, else the repository's.
    """
    repository, commit = call.commit()
    _require_committer(call, repository, as_pull=call.flag("create_pr"))
    answers, asked = [], call.json()
    wanted = list_field(asked, "files")
    present = commit.files.find([".gitignore", *(check_path(text_field(file, "path")) for file in wanted)])
    kept = present.get(".gitignore")
    rules = "" if kept is None else call.store.blob(repository.repo, kept.sha256).read_text("utf-8", "replace")
    is_ignored = ignored_by(text_field(asked, "gitIgnore", rules))
    for file in wanted:
        path, size, sample = text_field(file, "path"), size_field(file), _decode(text_field(file, "sample", ""))
        # Data formats, other binary files, and long texts. Never an empty file: the client sends it inline.
        suffix = PurePosixPath(path).suffix.removeprefix(".").lower()
        lfs = size > 0 and (suffix in _LFS_SUFFIXES or size > _LARGE_TEXT or b"\0" in sample)
        known = present.get(path)
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": is_ignored(path),
                "oid": known.etag if known is not None and known.lfs == lfs else None,
            }
        )
    return answer({"files": answers})


def lfs_batch(call: Call) -> Response:
    """Where to put each object. One that the repository already has gets no `actions`.

    Every reader may upload, since a pull request needs it; nobody can read what no commit names.
    """
    repository = call.readable()
    call.require_user()
    call.require_files(repository)
    wanted = call.json()
    if wanted.get("operation") != "upload":
        raise malformed("Only the operation 'upload' is supported: download through /resolve/")
    objects = []
    for each in list_field(wanted, "objects"):
        oid, size = text_field(each, "oid"), size_field(each)
        described: dict[str, object] = {"oid": oid, "size": size}
        if not call.store.blob(repository.repo, oid).exists():
            described["actions"] = {"upload": {"href": _address(call, repository.repo, oid, size)}}
        objects.append(described)
    return answer({"transfer": "basic", "objects": objects})


async def lfs_upload(call: Call) -> Response:
    """The upload of one object, kept only when it has the hash and the size that were signed."""
    repo, oid, query = call.repo(), call.args["oid"], call.request.query_params
    size, expires = whole_number(query.get("size", "")), whole_number(query.get("expires", ""))
    signature = _signature(call, repo, oid, size, expires)
    if not hmac.compare_digest(query.get("signature", "").encode(), signature.encode()):
        raise RefusedError(403, "This upload was not announced to the batch endpoint")
    if expires < time.time():
        raise RefusedError(403, "The time for this upload is over: ask the batch endpoint again")
    received = call.store.fresh()
    try:
        if await _receive(call, received, size) != oid:
            raise malformed(f"The upload does not have the sha256 {oid}")
        await run_in_threadpool(call.store.adopt, repo, received, oid)
    finally:
        received.unlink(missing_ok=True)
    return answer({})


async def _receive(call: Call, target: Path, size: int) -> str:
    """Write the body to `target` as it comes; its sha256. Raises `RefusedError` unless it has `size` bytes."""
    digest, written = hashlib.sha256(), 0
    with target.open("wb") as file:
        async for chunk in call.request.stream():
            written += len(chunk)
            if written > size:
                raise RefusedError(413, f"The upload has more than the {size:,} bytes that were announced")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        await run_in_threadpool(os.fsync, file.fileno())  # else the rename may reach the disk before the content
    if written != size:
        raise malformed(f"The upload has {written} bytes, not {size}")
    return digest.hexdigest()


def _address(call: Call, repo: RepoId, oid: str, size: int) -> str:
    """Where one object of this size can be put for a while, without a token."""
    expires = int(time.time()) + UPLOAD_SECONDS
    query = urlencode({"size": size, "expires": expires, "signature": _signature(call, repo, oid, size, expires)})
    return f"{call.endpoint}{repo.url_path}.git/info/lfs/objects/{oid}?{query}"


def _signature(call: Call, repo: RepoId, oid: str, size: int, expires: int) -> str:
    return hmac.new(call.store.key, f"{repo.kind}/{repo}/{oid}/{size}/{expires}".encode(), "sha256").hexdigest()


# Commit


def commit(call: Call) -> Response:
    """Newline-separated JSON: a header, then one operation a line. With `create_pr` it becomes a pull request."""
    repository, as_pull = call.readable(), call.flag("create_pr")
    author = _require_committer(call, repository, as_pull=as_pull)
    if as_pull and call.revision != MAIN:
        raise malformed("A pull request can only be made for the branch main")
    answered: dict[str, object] = {"success": True, "hookOutput": ""}
    url = f"{call.endpoint}{repository.repo.url_path}"
    with call.store.receiving() as contents:
        change = _change(call, repository.repo, author, contents)
        settle(contents)
        if as_pull:
            made, pull = call.store.propose(repository.repo, change)
            answered["pullRequestUrl"] = f"{url}/discussions/{pull.number}"
        else:
            made = call.store.commit(repository.repo, call.revision, change)
    return answer({**answered, "commitOid": made.id, "commitUrl": f"{url}/commit/{made.id}"})


def _require_committer(call: Call, repository: Repository, *, as_pull: bool) -> str:
    """The user, when they may commit: every reader to a pull request of their own, else who owns the namespace."""
    call.require_files(repository)
    pull = repository.pull(call.revision)
    if as_pull or (pull is not None and pull.author == call.user):
        return call.require_user()
    return call.require_writer(repository.repo.namespace)


def _change(call: Call, repo: RepoId, author: str, contents: Path) -> Change:
    """The commit that a body describes, read line by line, with its files' contents in the folder `contents`."""
    lines = _lines(call.body)
    kind, header = next(lines, (None, {}))
    if kind != "header":
        raise malformed("A commit must start with its header")
    parent = text_field(header, "parentCommit", "").lower() or None
    operations = tuple(_operation(call.store, repo, *line, contents) for line in lines)
    title, message = text_field(header, "summary"), text_field(header, "description", "")
    return Change(operations, title, message, author, parent, contents)


def _lines(body: IO[bytes]) -> Iterator[tuple[object, dict[str, Any]]]:
    """What each line is, and its value."""
    while line := body.readline(MAX_BODY + 1):
        if len(line) > MAX_BODY:
            message = "upload it as a large file (LFS), as the answer to preupload says"
            raise RefusedError(413, f"A file of the commit takes more than {MAX_BODY:,} bytes: {message}")
        if line.strip():
            parsed = parse_object(line)
            if not isinstance(value := parsed.get("value"), dict):
                raise malformed("Each line must have a 'value'")
            yield parsed.get("key"), value


def _operation(store: Store, repo: RepoId, kind: object, value: dict[str, Any], contents: Path) -> Operation:
    path = text_field(value, "path")
    if kind == "deletedFolder":
        return Remove(check_path(path.rstrip("/")), is_folder=True)
    check_path(path)
    if kind == "deletedFile":
        return Remove(path, is_folder=False)
    if kind == "file":
        content = text_field(value, "content")
        return receive(contents, path, _decode(content, value.get("encoding")))
    if kind == "lfsFile":
        size = None if value.get("size") is None else size_field(value)
        return AddFile(path, store.uploaded(repo, path, text_field(value, "oid"), size))
    raise malformed(f"Unknown operation: {kind!r}")


def _decode(content: str, encoding: object = "base64") -> bytes:
    if encoding not in ("base64", "utf-8", None):
        raise malformed(f"Unknown encoding: {encoding!r}")
    try:
        return base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except ValueError:
        raise malformed(f"The content is not valid {encoding or 'UTF-8'}") from None


# Read


def resolve(call: Call) -> Response:
    """A file, whole or in ranges."""
    repository, commit = call.commit()
    call.require_files(repository)
    path = check_path(call.args.get("path", ""))
    entry = commit.files.get(path)
    if entry is None:
        raise entry_not_found("Entry not found", commit.id)
    blob = call.store.blob(repository.repo, entry.sha256)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.etag}"', **_HARMLESS}
    return FileResponse(blob, headers=headers, media_type=_media_type(path), stat_result=blob.stat())


def tree(call: Call) -> Response:
    """The entries of a folder, or of everything below it."""
    repository, commit = call.commit()
    found = listing(commit, call.args.get("path", ""), recursive=call.flag("recursive"))
    return answer([_entry(call, repository, *each, call.flag("expand")) for each in found.items()])


def paths_info(call: Call) -> Response:
    """Like `tree`, for chosen paths; those that do not exist are left out."""
    is_form = call.request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    wanted = parse_qs(call.body.read().decode("utf-8", "replace")) if is_form else call.json()
    paths = wanted.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise malformed("'paths' must be a list of paths")
    repository, commit = call.commit()
    found: dict[str, FileEntry | Tree] = {**commit.files.find(paths)}
    others = [path for path in paths if path not in found and is_path(path)]
    found |= {path: inside for path in others if (inside := commit.files.below(path))}
    expand = wanted.get("expand") in (True, ["true"], ["True"])  # in a form every value is a list of text
    return answer([_entry(call, repository, path, found[path], expand) for path in paths if path in found])


def lfs_details(entry: FileEntry, hash_name: str) -> dict[str, object]:
    """The description of an LFS file; empty for others. Trees call the hash `oid`, siblings `sha256`."""
    if not entry.lfs:
        return {}
    pointer_size = len(lfs_pointer(entry.sha256, entry.size))
    return {"lfs": {hash_name: entry.sha256, "size": entry.size, "pointerSize": pointer_size}}


def _entry(call: Call, repository: Repository, path: str, entry: FileEntry | Tree, expand: bool) -> dict[str, object]:
    """A file, or a folder with all files below it, as the clients read it."""
    described: dict[str, object]
    if isinstance(entry, FileEntry):
        described = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid, **lfs_details(entry, "oid")}
        files: Iterable[FileEntry] = [entry]
    else:
        inside = "".join(f"{each} {file.oid}\n" for each, file in entry.items())
        described = {"type": "directory", "path": path, "size": 0, "oid": git_blob_id(inside.encode())}
        files = entry.values()
    if expand:
        last = last_change(call.store.history(repository), files)
        described["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
    return described


def listing(commit: Commit, folder: str, *, recursive: bool = False) -> dict[str, FileEntry | Tree]:
    """What is in a folder, or at any depth below it: files, and folders with all files in them; by path.

    Raises `RefusedError` (404) where a folder other than the root holds nothing.
    """
    start = check_path(folder) + "/" if folder else ""
    files = commit.files.below(folder)
    if folder and not files:
        raise entry_not_found(f"{folder} does not exist on {commit.id}", commit.id)
    folders: dict[str, dict[str, FileEntry]] = {}
    for path, entry in files.items():
        for above in parent_folders(path):
            folders.setdefault(above, {})[path] = entry
    found: dict[str, FileEntry | Tree] = {**folders, **files}
    return {
        path: found[path]
        for path in sorted(found)
        if path.startswith(start) and (recursive or "/" not in path[len(start) :])
    }


def _media_type(path: str) -> str:
    guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
    if guessed.startswith("image/"):
        return guessed
    return "text/plain" if guessed.startswith("text/") else "application/octet-stream"


# What a `.gitignore` leaves out: git's rules, but for `[[:alpha:]]` and `[z-a]`

_PARTS = re.compile(
    r"(?P<folders>(?:(?<=/)|^)\*\*+/)|(?P<below>(?<=/)\*\*+$)|(?P<text>\*+)|(?P<one>\?)|\\(?P<escaped>.)"
    r"|\[(?P<other>[!^]?)(?P<members>\]?(?:\\.|[^]\\])*)\]|(?P<plain>[^[\\])",
    re.DOTALL,
)
_MEANINGS = {"folders": "(?:.*/)?", "below": ".+", "text": "[^/]*", "one": "[^/]"}


def ignored_by(text: str) -> Callable[[str], bool]:
    """Tells of a path whether the `.gitignore` with this text, at the root of a repository, leaves it out."""
    rules = [rule for line in text.removeprefix("\ufeff").split("\n") if (rule := _rule(line.removesuffix("\r")))]

    def last(path: str) -> bool:
        """What the last rule says that matches."""
        return next((ignored for pattern, ignored in reversed(rules) if pattern.fullmatch(path)), False)

    # Nothing below an ignored folder is taken in again.
    return lambda path: any(last(f"{folder}/") for folder in parent_folders(path)) or last(path)


def _rule(line: str) -> tuple[re.Pattern[str], bool] | None:
    """What a line matches (a folder ends with `/`), and whether that is ignored; None where it matches nothing."""
    ends = re.fullmatch(r"((?:\\.|[^\\]|\\$)*?) *", line, re.DOTALL)
    pattern = ends[1] if ends and not line.startswith("#") else ""
    is_ignored, pattern = not pattern.startswith("!"), pattern.removeprefix("!")
    end, pattern = ("(?<!/)/" if pattern.endswith("/") else "(?<!/)/?"), pattern.removesuffix("/")
    start, pattern = ("" if "/" in pattern else "(?:.*/)?"), pattern.removeprefix("/")
    parts = list(_PARTS.finditer(pattern))
    if not pattern or "".join(part[0] for part in parts) != pattern:
        return None
    try:
        return re.compile(start + "".join(map(_meaning, parts)) + end, re.DOTALL), is_ignored
    except re.error:  # a range backwards
        return None


def _meaning(part: re.Match[str]) -> str:
    if part["members"] is not None:  # with what Python, but not git, reads in them escaped
        members = re.sub(r"\\(.)|([\[&~|])", lambda each: re.escape(each[1] or each[2]), part["members"])
        return f"(?!/)[{'^' if part['other'] else ''}{members}]"
    literal = part["escaped"] or part["plain"]
    return re.escape(literal) if literal else _MEANINGS[part.lastgroup or ""]
