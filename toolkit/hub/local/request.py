"""One request: whose token it shows, what its user may do, what its body says, and how it is answered."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response

from toolkit.core.listen import shown_token
from toolkit.hub.local.history import Commit
from toolkit.hub.local.objects import (
    BAD_TOKEN,
    MAIN,
    RefusedError,
    RepoId,
    Repository,
    malformed,
    repo_id,
    repo_not_found,
)
from toolkit.hub.local.store import Store

OWNER = "demo"  # whose Hub it is: they may write in every namespace, others in that of their name
MAX_BODY = 16 * 2**20  # bytes of a body, or of a line of a commit; large files have no limit

# Accounts


def hash_tokens(tokens: Mapping[str, str] | None, owner_token: str | None) -> dict[bytes, str] | None:
    """Users by the hashes of their tokens, None where nobody needs one; the arguments as `running_hub` takes them."""
    if tokens is None and owner_token is None:
        return None
    owner = {} if owner_token is None else {owner_token: OWNER}
    return {_hash(token): user for token, user in {**(tokens or {}), **owner}.items()}


def who(users: Mapping[bytes, str] | None, header: str | None) -> str | None:
    """The user of an `Authorization` header; None without one. Raises `RefusedError` (401) for a wrong token.

    Where nobody needs a token, everybody is the owner. Tokens are compared by their hashes, so that the time of a
    look-up reveals nothing about one.
    """
    if users is None:
        return OWNER
    if header is None:
        return None
    user = users.get(_hash(shown_token(header)))
    if user is None:
        raise bad_token(ask_browser=header.lower().startswith("basic "))
    return user


def bad_token(*, ask_browser: bool) -> RefusedError:
    """The refusal (401) of a wrong token. With `ask_browser`, it makes a browser ask for the right one."""
    asked = 'Basic realm="The token of this Hub, as the password", charset="UTF-8"'
    return RefusedError(401, BAD_TOKEN, headers={"WWW-Authenticate": asked} if ask_browser else None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


# Requests


@dataclass(frozen=True)
class Call:
    """A request whose path was taken apart: `args` holds its unquoted parts. `user` is None without a token."""

    request: Request
    store: Store
    args: Mapping[str, str]
    body: IO[bytes]
    user: str | None

    @property
    def endpoint(self) -> str:
        """The address that this client uses for the Hub, without a trailing slash."""
        return str(self.request.base_url).rstrip("/")

    @property
    def revision(self) -> str:
        named = self.args.get("revision", MAIN)
        return MAIN if named == "HEAD" else named

    def flag(self, name: str) -> bool:
        """Whether a query parameter is set; clients write true, True or 1."""
        return self.request.query_params.get(name, "").lower() in ("true", "1")

    # What the user may do

    def repo(self) -> RepoId:
        """The repository that the path names. Raises `RefusedError` (400) for an impossible name."""
        return repo_id(self.args.get("kind", "models"), self.args["namespace"], self.args["name"])

    def readable(self, repo: RepoId | None = None) -> Repository:
        """The repository, by default the one in the path.

        Raises:
            RefusedError: The user may not see it (401, 404), or the path has a name that it no longer has (307).
        """
        wanted = repo or self.repo()
        if (found := self._visible(wanted)) is not None:
            return found
        target = self.store.moved(wanted) if repo is None else None
        if target is not None and self._visible(target) is not None:
            address, query = (self.request.scope[part].decode("latin-1") for part in ("raw_path", "query_string"))
            address = address.replace(f"/{wanted}", f"/{target}", 1) + (query and f"?{query}")
            raise RefusedError(307, f"{wanted} is called {target} now", headers={"Location": address})
        raise repo_not_found(stranger=self.user is None)

    def _visible(self, repo: RepoId) -> Repository | None:
        """A repository that exists and that the user may see."""
        try:
            repository = self.store.repository(repo)
        except RefusedError:
            return None
        return repository if self.may_see(repository) else None

    def commit(self) -> tuple[Repository, Commit]:
        """The repository and the commit that the path names."""
        repository = self.readable()
        return repository, self.store.commit_at(repository, self.revision)

    def writable(self, repo: RepoId | None = None) -> Repository:
        """Like `readable`, for changing it."""
        repository = self.readable(repo)
        self.require_writer(repository.repo.namespace)
        return repository

    def may_see(self, repository: Repository) -> bool:
        return not repository.private or self.may_write(repository.repo.namespace)

    def may_write(self, namespace: str) -> bool:
        return self.user == OWNER or (self.user or "").lower() == namespace.lower()

    def require_files(self, repository: Repository) -> None:
        """Raise `RefusedError` (401, 403) for the files of a gated repository, unless the user may write to it."""
        if repository.gated is not None and not self.may_write(repository.repo.namespace):
            kind = repository.repo.kind[:-1]
            message = (
                f"Access to {kind} {repository.repo} is restricted and you are not in the authorized list: "
                "only those who may write to it may read its files"
            )
            raise RefusedError(401 if self.user is None else 403, message, code="GatedRepo")

    def require_user(self) -> str:
        """The user. Raises `RefusedError` (401) without a token."""
        if self.user is None:
            raise bad_token(ask_browser=False)
        return self.user

    def require_writer(self, namespace: str) -> str:
        """The user, when they may write under `namespace`. Raises `RefusedError` (401, 403)."""
        user = self.require_user()
        if not self.may_write(namespace):
            raise RefusedError(403, f"{user} may not write under the namespace {namespace}")
        return user

    # What the body says

    def json(self, *known: str) -> dict[str, Any]:
        """The body as a JSON object; with `known`, without other fields. Raises `RefusedError` (400)."""
        value = parse_object(self.body.read())
        refuse_others(value, known or value)
        return value


def parse_object(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises `RefusedError` (400) for anything else."""
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise malformed("The body is not valid JSON") from None
    if not isinstance(value, dict):
        raise malformed("The body must be a JSON object")
    return value


def text_field(value: Mapping[str, Any], name: str, default: str | None = None) -> str:
    """A field that must be text; null or absent, it is the default. Raises `RefusedError` (400)."""
    found = default if value.get(name) is None else value[name]
    if not isinstance(found, str):
        raise malformed(f"{name!r} must be text")
    return found


def size_field(value: Mapping[str, Any]) -> int:
    """The field `size`, which must count bytes. Raises `RefusedError` (400)."""
    found = value.get("size")
    if not isinstance(found, int) or found < 0:
        raise malformed("'size' must be a whole number of bytes")
    return found


def list_field(value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A field that must be a list of objects. Raises `RefusedError` (400)."""
    found = value.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise malformed(f"{name!r} must be a list of objects")
    return found


def refuse_others(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise `RefusedError` (400) for what is asked for and not known: without it, it would be another request."""
    if unknown := [name for name, value in given.items() if value not in (None, False, [], {}) and name not in known]:
        raise malformed(f"The local Hub does not support {', '.join(map(repr, unknown))}")


def whole_number(text: str) -> int:
    """A number in a query. Raises `RefusedError` (400)."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise malformed(f"Not a whole number: {text[:20]!r}")
    return int(text)


# Answers


def answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response in ASCII."""
    return Response(json.dumps(value), status, headers, "application/json")
