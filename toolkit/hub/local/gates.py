"""Gated repositories: who asks for the files of one that everybody sees, and whom its owners let in."""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import RedirectResponse, Response

from toolkit.hub.local.call import Call, answer, paged, text_field
from toolkit.hub.local.objects import Repository
from toolkit.hub.local.refusal import RefusedError, malformed
from toolkit.hub.local.store import now

STATUSES = ("pending", "accepted", "rejected")


def ask(call: Call) -> Response:
    """A user asks for access, on the repository's page. Where it is given to everybody who asks, they have it then.

    Asking twice changes nothing: who was rejected stays so.
    """
    found, user = call.readable(), call.require_user()

    def change(repository: Repository) -> Repository:
        _require_gate(repository)
        if repository.request_status(user) not in (None, "pending"):
            return repository
        return _with_status(repository, user, "accepted" if repository.gated == "auto" else "pending")

    call.store.update(found.repo, change)
    return RedirectResponse(found.repo.url_path, 303)


def listing(call: Call) -> Response:
    """The requests of one status, for an owner."""
    repository, status = call.writable(), call.args["status"]
    _require_gate(repository)
    found = [
        {
            "requestId": request["id"],
            "user": {"user": user, "fullname": user},
            "status": status,
            "timestamp": request["at"],
        }
        for user, request in repository.requests.items()
        if request["status"] == status
    ]
    return paged(call, found)


def decide(call: Call) -> Response:
    """An owner accepts or rejects a request, or lets it wait again, which takes access back."""
    wanted = call.json()
    status = text_field(wanted, "status")
    if status not in STATUSES:
        raise malformed(f"Unknown status: {status!r}")
    repo = call.writable().repo

    def change(repository: Repository) -> Repository:
        _require_gate(repository)
        user = _asked_by(repository, wanted)
        if repository.request_status(user) in (None, status):
            raise RefusedError(404, f"There is no request of {user} that is not {status}")
        return _with_status(repository, user, status)

    call.store.update(repo, change)
    return answer({})


def grant(call: Call) -> Response:
    """An owner lets somebody in who did not ask. Only tokens know users, so any name can be granted access."""
    user, repo = text_field(call.json(), "user"), call.writable().repo

    def change(repository: Repository) -> Repository:
        _require_gate(repository)
        if repository.request_status(user) == "accepted":
            raise malformed(f"{user} has access already")
        return _with_status(repository, user, "accepted")

    call.store.update(repo, change)
    return answer({})


def _require_gate(repository: Repository) -> None:
    if repository.gated is None:
        raise RefusedError(400, f"{repository.repo} is not gated", code="RepoNotGated")


def _asked_by(repository: Repository, wanted: Mapping[str, Any]) -> str:
    """Whose request a body means, by `user` or `requestId`."""
    if wanted.get("requestId") is None:
        return text_field(wanted, "user")
    number = text_field(wanted, "requestId")
    return next((user for user, request in repository.requests.items() if request["id"] == number), "")


def _with_status(repository: Repository, user: str, status: str) -> Repository:
    known = repository.requests.get(user) or {"id": secrets.token_hex(12), "at": now()}
    return replace(repository, requests={**repository.requests, user: {**known, "status": status}})
