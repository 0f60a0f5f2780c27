"""Repositories as wholes: create, describe, rename, delete; their branches and tags."""

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from toolkit.hub.local.call import Call, answer, text_field
from toolkit.hub.local.describing import describe, describe_fields, wanted_fields
from toolkit.hub.local.lfs import GIT_ATTRIBUTES
from toolkit.hub.local.names import RepoId, repo_id
from toolkit.hub.local.objects import RefKind
from toolkit.hub.local.refusal import RefusedError, malformed
from toolkit.hub.local.store import MAIN


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


def info(call: Call) -> Response:
    repository, commit = call.commit()
    fields = wanted_fields(call)
    if fields:
        return answer(describe_fields(call, repository, commit, fields))
    return answer(describe(call, repository, commit, "siblings", "cardData"))


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
    """Clients say it as `visibility`, or, older ones, as `private`; null or absent, it is the default."""
    visibility, private = wanted.get("visibility"), wanted.get("private")
    if visibility not in (None, "public", "private"):
        raise malformed(f"Unknown visibility: {visibility!r}")
    if private is not None and not isinstance(private, bool):
        raise malformed(f"'private' must be true or false: {private!r}")
    if visibility is not None:
        return bool(visibility == "private")
    return default if private is None else bool(private)
