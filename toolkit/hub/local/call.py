"""One request as the handlers see it: who asks, for which repository, with what body, all checked."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import Response

from toolkit.hub.local.body import Limits
from toolkit.hub.local.names import RepoId, repo_id
from toolkit.hub.local.objects import Commit, Repository
from toolkit.hub.local.refusal import BAD_TOKEN, RefusedError, gated, malformed, repo_not_found
from toolkit.hub.local.store import MAIN, Store

Entry = TypeVar("Entry")
PAGE = 1_000  # entries of a tree, a history or a search in one answer


@dataclass(frozen=True)
class Account:
    """A user, who owns the namespace of their name, or may write in every one."""

    name: str
    everywhere: bool


@dataclass(frozen=True)
class Call:
    """A request whose path was taken apart: `args` holds its unquoted parts.

    `account` is None for a stranger; `users` are all whom this Hub knows by name.
    """

    request: Request
    store: Store
    args: Mapping[str, str]
    body: bytes
    account: Account | None
    limits: Limits
    users: frozenset[str] = frozenset()

    @property
    def user(self) -> str | None:
        return None if self.account is None else self.account.name

    @property
    def endpoint(self) -> str:
        """The address that this client uses for the Hub, without a trailing slash."""
        return str(self.request.base_url).rstrip("/")

    @property
    def revision(self) -> str:
        return self.args.get("revision", MAIN)

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set; clients write true, True or 1."""
        return self.request.query_params.get(name, "").lower() in ("true", "1")

    # Who may do what

    def repo(self) -> RepoId:
        """The repository that the path names; a name that none can have is not found."""
        try:
            return repo_id(self.args.get("kind", "models"), self.args["namespace"], self.args["name"])
        except RefusedError:
            raise repo_not_found() from None

    def readable(self, repo: RepoId | None = None) -> Repository:
        """The repository, by default the one in the path. Raises `RefusedError` unless the user may see it."""
        try:
            repository = self.store.repository(repo or self.repo())
            if self.may_see(repository):
                return repository
        except RefusedError as refused:
            if refused.status != 404:
                raise
        raise repo_not_found(stranger=self.user is None)

    def may_see(self, repository: Repository) -> bool:
        return not repository.private or self.may_write(repository.repo.namespace)

    def may_write(self, namespace: str) -> bool:
        return self.account is not None and (self.account.everywhere or self.account.name == namespace)

    def may_open(self, repository: Repository) -> bool:
        """Whether a user who sees a repository may read its files."""
        if repository.gated is None or self.may_write(repository.repo.namespace):
            return True
        return repository.request_status(self.user) == "accepted"

    def require_access(self, repository: Repository) -> None:
        """Raises `RefusedError` (401, 403) unless the user may read a repository's files."""
        if self.may_open(repository):
            return
        page = f"{self.endpoint}{repository.repo.url_path}"
        told = {
            None: f"{repository.repo} is gated. Ask for access on {page}",
            "pending": f"The request of {self.user} for {repository.repo} is awaiting an answer",
            "rejected": f"The request of {self.user} for {repository.repo} was rejected",
        }
        raise gated(told[repository.request_status(self.user)], stranger=self.user is None)

    def commit(self) -> tuple[Repository, Commit]:
        """The repository and the commit that the path names."""
        repository = self.readable()
        return repository, self.store.commit_at(repository, self.revision)

    def writable(self, repo: RepoId | None = None) -> Repository:
        """Like `readable`, for changing it."""
        repository = self.readable(repo)
        self.require_writer(repository.repo.namespace)
        return repository

    def require_user(self) -> str:
        """The user. Raises `RefusedError` (401) for a stranger."""
        if self.user is None:
            raise RefusedError(401, BAD_TOKEN)
        return self.user

    def require_writer(self, namespace: str) -> str:
        """The user, when they may write under `namespace`. Raises `RefusedError` (401, 403)."""
        user = self.require_user()
        if not self.may_write(namespace):
            raise RefusedError(403, f"{user} may not write under the namespace {namespace}")
        return user

    # What the body says

    def json(self) -> dict[str, Any]:
        """The body as a JSON object. Raises `RefusedError` (400)."""
        return parse_object(self.body)

    def json_or_form(self) -> dict[str, Any]:
        """The body as JSON, or as a form whose every field is a list."""
        if self.request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return dict(parse_qs(self.body.decode("utf-8", "replace")))
        return self.json()


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises `RefusedError` (400) for anything else."""
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError):  # the former also for broken UTF-8 and numbers of too many digits
        raise malformed("The body is not valid JSON") from None
    if not isinstance(value, dict):
        raise malformed("The body must be a JSON object")
    return value


def text_field(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that must be text; null or absent, it is the default. Raises `RefusedError` (400)."""
    found = value.get(name)
    if found is None:
        found = default
    if not isinstance(found, str):
        raise malformed(f"{name!r} must be text")
    return found


def size_field(value: Mapping[str, Any], name: str = "size") -> int:
    """A field that must count bytes. Raises `RefusedError` (400)."""
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise malformed(f"{name!r} must be a whole number of bytes")
    return found


def whole_number(text: str) -> int:
    """A number in a query. Raises `RefusedError` (400)."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise malformed(f"Not a whole number: {text[:20]!r}")
    return int(text)


def list_field(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A field that must be a list of objects. Raises `RefusedError` (400)."""
    found = value.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise malformed(f"{name!r} must be a list of objects")
    return found


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response in ASCII: a lone surrogate in a commit title must not break the encoding."""
    return Response(json.dumps(value), status, headers, "application/json")


def paged(call: Call, entries: Sequence[Entry], shown: Callable[[Entry], Any] = lambda entry: entry) -> Response:
    """One page of a list, `limit` long from `cursor` on, with a link to the next one as the clients follow it.

    `shown` turns an entry into what is answered, for those of the page alone.
    """
    query = call.request.query_params
    start = whole_number(query.get("cursor", "0"))
    end = start + max(1, min(whole_number(query.get("limit", str(PAGE))), PAGE))
    page = [shown(entry) for entry in entries[start:end]]
    if end >= len(entries):
        return answer(page)
    kept = [(name, value) for name, value in query.multi_items() if name != "cursor"]
    raw_path = call.request.scope["raw_path"].decode("ascii")
    url = f"{call.endpoint}{raw_path}?{urlencode([*kept, ('cursor', end)])}"
    return answer(page, headers={"Link": f'<{url}>; rel="next"'})
