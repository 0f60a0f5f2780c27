"""Users and the namespaces besides theirs: who they are, what they have, and how much of the disk it takes."""

from typing import Any

from starlette.responses import Response

from toolkit.hub.local.call import Call, answer, paged
from toolkit.hub.local.names import KINDS
from toolkit.hub.local.objects import Repository
from toolkit.hub.local.refusal import RefusedError
from toolkit.hub.local.store import MAIN


def user_overview(call: Call) -> Response:
    """A user, with how many repositories of theirs the asking one sees."""
    name = call.args["namespace"]
    if name not in call.users:
        raise RefusedError(404, f"This Hub has no user {name}")
    return answer({"user": name, "fullname": name, "type": "user", "orgs": [], **_counts(_within(call, name))})


def organisation_overview(call: Call) -> Response:
    """A namespace that is no user's: it is there when the asking user sees something in it."""
    name, found = call.args["namespace"], _within(call, call.args["namespace"])
    if name in call.users or not found:
        raise RefusedError(404, f"This Hub has no organization {name}")
    return answer({"name": name, "fullname": name, "type": "org", **_counts(found)})


def repositories(call: Call) -> Response:
    """All that lies in a namespace, by default in the user's own, with what it takes."""
    name = call.args.get("namespace", call.require_user())
    call.require_writer(name)
    found = _within(call, name)
    sizes = {each.repo: call.store.size(each.repo) for each in found}
    total = sum(sizes.values())

    def shown(each: Repository) -> dict[str, Any]:
        return {
            "id": str(each.repo),
            "type": each.repo.kind.removesuffix("s"),
            "updatedAt": call.store.commit_at(each, MAIN).date,
            "visibility": "private" if each.private else "public",
            "storage": sizes[each.repo],
            "storagePercent": 100 * sizes[each.repo] / total if total else 0.0,
        }

    return paged(call, found, shown)


def _within(call: Call, namespace: str) -> list[Repository]:
    return [
        each
        for kind in KINDS
        for each in call.store.repositories(kind)
        if each.repo.namespace == namespace and call.may_see(each)
    ]


def _counts(found: list[Repository]) -> dict[str, int]:
    return {f"num{kind.capitalize()}": sum(each.repo.kind == kind for each in found) for kind in KINDS}
