"""What a commit holds: its tree, single entries, and the files themselves."""

import hashlib
import mimetypes
from collections.abc import Mapping
from typing import Any

from starlette.responses import FileResponse, Response

from toolkit.hub.local.call import Call, answer, paged
from toolkit.hub.local.names import check_path
from toolkit.hub.local.objects import Commit, FileEntry, Repository, lfs_pointer, parent_folders
from toolkit.hub.local.refusal import entry_not_found, malformed

# Files come from whoever pushed them: a browser shall show them at most, never run them in the Hub's name.
_HARMLESS = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}


def resolve(call: Call) -> Response:
    """A file, whole or in ranges."""
    repository, commit = call.commit()
    call.require_access(repository)
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
    below = call.args.get("path", "")
    start = check_path(below) + "/" if below else ""
    folders = _folders(commit.files)
    if below and below not in folders:
        raise entry_not_found(f"{below} does not exist on {call.revision}", commit.id)
    paths = sorted(
        path
        for path in (*folders, *commit.files)
        if path.startswith(start) and (call.flag("recursive") or "/" not in path[len(start) :])
    )
    expand = call.flag("expand")
    return paged(call, [_entry(call, repository, commit, folders, path, expand) for path in paths])


def paths_info(call: Call) -> Response:
    """Like `tree`, for chosen paths; those that do not exist are left out."""
    wanted = call.json_or_form()
    paths = wanted.get("paths", [])
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise malformed("'paths' must be a list of paths")
    repository, commit = call.commit()
    folders = _folders(commit.files)
    found = [path for path in paths if path in commit.files or path in folders]
    expand = wanted.get("expand") in (True, ["true"], ["True"])  # in a form every value is a list of text
    return answer([_entry(call, repository, commit, folders, path, expand) for path in found])


def lfs_files(call: Call) -> Response:
    """Every large file of the whole history of a branch, a tag or a pull request, for who may write."""
    repository = call.writable()
    found: dict[str, dict[str, Any]] = {}
    for ref, revision in repository.named().items():
        for commit in call.store.history(repository, revision):
            for path, entry in commit.files.items():
                if entry.lfs and (entry.sha256 not in found or commit.date < found[entry.sha256]["pushedAt"]):
                    found[entry.sha256] = {
                        "fileOid": entry.sha256,
                        "oid": entry.sha256,
                        "filename": path,
                        "pushedAt": commit.date,
                        "ref": ref,
                        "size": entry.size,
                    }
    return paged(call, sorted(found.values(), key=lambda each: (each["filename"], each["pushedAt"], each["oid"])))


def lfs_details(entry: FileEntry, hash_name: str) -> dict[str, Any]:
    """How an LFS file is described; nothing for others. Trees call the hash `oid`, siblings `sha256`."""
    if not entry.lfs:
        return {}
    pointer_size = len(lfs_pointer(entry.sha256, entry.size))
    return {"lfs": {hash_name: entry.sha256, "size": entry.size, "pointerSize": pointer_size}}


def _entry(
    call: Call, repository: Repository, commit: Commit, folders: Mapping[str, list[str]], path: str, expand: bool
) -> dict[str, Any]:
    entry = commit.files.get(path)
    if entry is not None:
        described = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid, **lfs_details(entry, "oid")}
        changes = {entry.commit}
    else:
        inside = [(each, commit.files[each]) for each in folders[path]]
        listing = "".join(f"{each} {file.oid}\n" for each, file in inside)
        oid = hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()
        described = {"type": "directory", "path": path, "size": 0, "oid": oid}
        changes = {file.commit for _, file in inside}
    if expand:
        last = max((call.store.commit_at(repository, each) for each in changes), key=lambda each: each.date)
        described["lastCommit"] = {"id": last.id, "title": last.title, "date": last.date}
    return described


def _folders(files: Mapping[str, FileEntry]) -> dict[str, list[str]]:
    """Every folder, with the paths of all files below it."""
    folders: dict[str, list[str]] = {}
    for path in sorted(files):
        for folder in parent_folders(path):
            folders.setdefault(folder, []).append(path)
    return folders


def _media_type(path: str) -> str:
    guessed = mimetypes.guess_type(path)[0] or "application/octet-stream"
    if guessed.startswith("image/"):
        return guessed
    return "text/plain" if guessed.startswith("text/") else "application/octet-stream"
