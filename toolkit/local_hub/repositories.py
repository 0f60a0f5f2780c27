"""Repositories as wholes: create, find, describe, rename, delete; their branches and tags."""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from toolkit.local_hub.call import Call, answer, paged, text_field
from toolkit.local_hub.cards import card_data
from toolkit.local_hub.contents import lfs_details
from toolkit.local_hub.lfs import GIT_ATTRIBUTES
from toolkit.local_hub.names import RepoId, repo_id
from toolkit.local_hub.objects import Commit, FileEntry, RefKind, Repository
from toolkit.local_hub.refusal import RefusedError, malformed
from toolkit.local_hub.store import MAIN


def create(call: Call) -> Response:
    wanted = call.json()
    repo = _repo_in(call, wanted)
    author = call.require_writer(repo.namespace)
    url = {"name": str(repo), "url": call.endpoint + repo.url_path}
    try:
        call.store.create(
            repo, private=_is_private(wanted, False), author=author, files={".gitattributes": GIT_ATTRIBUTES}
        )
    except RefusedError as refused:
        refused.extra.update(url)  # read by `create_repo(exist_ok=True)`
        raise
    return answer(url)


def delete(call: Call) -> Response:
    repo = _repo_in(call, call.json())
    call.writable(repo)
    call.store.delete(repo)
    return answer({})


def move(call: Call) -> Response:
    wanted = call.json()
    source, target = (_split_id(wanted, name) for name in ("fromRepo", "toRepo"))
    call.writable(source)
    call.require_writer(target.namespace)
    call.store.move(source, target)
    return answer({})


def settings(call: Call) -> Response:
    """Who sees a repository, and whether its files are for those only who asked for access."""
    wanted = call.json()
    repository = call.writable()
    private, gated = _is_private(wanted, repository.private), wanted.get("gated", repository.gated or False)
    if gated not in ("auto", "manual", False):
        raise malformed(f"'gated' must be auto, manual or false: {gated!r}")
    call.store.update(repository.repo, lambda state: replace(state, private=private, gated=gated or None))
    return answer({"private": private, "gated": gated})


def search(call: Call) -> Response:
    """Every repository of one kind, narrowed by `author`, `search`, `gated` and `limit`."""
    query = call.request.query_params
    author, words = query.get("author"), query.get("search", "").lower()
    gated = call.flag("gated") if "gated" in query else None
    found = [
        _describe(call, each, call.store.commit_at(each, MAIN))
        for each in call.store.repositories(call.args["kind"])
        if call.may_see(each)
        and author in (None, each.repo.namespace)
        and words in str(each.repo).lower()
        and gated in (None, each.gated is not None)
    ]
    return paged(call, found)


def info(call: Call) -> Response:
    repository, commit = call.commit()
    described = _describe(call, repository, commit)
    described["siblings"] = [_sibling(path, entry, call.flag("blobs")) for path, entry in sorted(commit.files.items())]
    card = card_data(call, repository, commit)
    if card:
        described["cardData"] = card
        described["tags"] = card.get("tags") if isinstance(card.get("tags"), list) else []
        for field in ("pipeline_tag", "library_name"):
            if isinstance(card.get(field), str):
                described[field] = card[field]
    return answer(described)


def refs(call: Call) -> Response:
    repository = call.readable()
    return answer(
        {
            "branches": _refs("heads", repository.branches),
            "tags": _refs("tags", repository.tags),
            "converts": [],
            "pullRequests": [
                {"name": each.ref, "ref": each.ref, "targetCommit": each.head}
                for each in repository.discussions
                if each.head is not None and call.flag("include_prs")
            ],
        }
    )


def create_branch(call: Call) -> Response:
    return _create_ref(call, "branches", call.revision, text_field(call.json(), "startingPoint", MAIN))


def delete_branch(call: Call) -> Response:
    return _delete_ref(call, "branches")


def create_tag(call: Call) -> Response:
    return _create_ref(call, "tags", text_field(call.json(), "tag"), call.revision)


def delete_tag(call: Call) -> Response:
    return _delete_ref(call, "tags")


def _create_ref(call: Call, kind: RefKind, name: str, revision: str) -> Response:
    call.store.create_ref(call.writable().repo, kind, name, revision)
    return answer({})


def _delete_ref(call: Call, kind: RefKind) -> Response:
    call.store.delete_ref(call.writable().repo, kind, call.revision)
    return answer({})


def _refs(folder: str, names: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit_id} for name, commit_id in names.items()
    ]


def _describe(call: Call, repository: Repository, commit: Commit) -> dict[str, Any]:
    return {
        "id": str(repository.repo),
        "author": repository.repo.namespace,
        "sha": commit.id,
        "lastModified": commit.date,
        "createdAt": repository.created_at,
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
    }


def _sibling(path: str, entry: FileEntry, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {"rfilename": path}
    return {"rfilename": path, "size": entry.size, "blobId": entry.oid, **lfs_details(entry, "sha256")}


def _repo_in(call: Call, wanted: dict[str, Any]) -> RepoId:
    """The repository that a body names; without an organization it is the user's own."""
    namespace = text_field(wanted, "organization", call.user or "")
    if not namespace:
        call.require_writer(namespace)
    return repo_id(text_field(wanted, "type", "model") + "s", namespace, text_field(wanted, "name"))


def _split_id(wanted: dict[str, Any], name: str) -> RepoId:
    namespace, _, repo_name = text_field(wanted, name).partition("/")
    return repo_id(text_field(wanted, "type", "model") + "s", namespace, repo_name)


def _is_private(wanted: dict[str, Any], default: bool) -> bool:
    """Clients say it as `visibility`, or, older ones, as `private`."""
    visibility = wanted.get("visibility")
    if visibility is None:
        return bool(wanted.get("private", default))
    if visibility not in ("public", "private"):
        raise malformed(f"Unknown visibility: {visibility!r}")
    return bool(visibility == "private")
