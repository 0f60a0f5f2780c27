"""The Hub as an ASGI application: which handler answers a request, who asks, and how a refusal looks."""

import errno
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from toolkit.hub.local import (
    accounts,
    cards,
    commits,
    contents,
    discussions,
    gates,
    lfs,
    namespaces,
    pages,
    repositories,
    searching,
    squashing,
)
from toolkit.hub.local.accounts import Accounts, make_accounts
from toolkit.hub.local.body import Limits, check_headers, read_body
from toolkit.hub.local.call import Call, answer
from toolkit.hub.local.faults import Fault, Faulty
from toolkit.hub.local.refusal import RefusedError, malformed, repo_not_found
from toolkit.hub.local.store import Store

Handler = Callable[[Call], Response]
Faults = Callable[[Request], Response | None]

_NAMESPACE = "(?P<namespace>[^/]+)"
_REPO = f"{_NAMESPACE}/(?P<name>[^/]+)"
_API = f"/api/(?P<kind>models|datasets|spaces)/{_REPO}"
_SITE = f"(?!/api/)(?:/(?P<kind>datasets|spaces))?/{_REPO}"
_REVISION = "(?P<revision>[^/]+)"
_NUMBER = "(?P<number>[0-9]{1,9})"
_PATH = "(?:/(?P<path>.*))?"
_LFS = rf"{_SITE}\.git/info/lfs/objects"

# The first match answers. A HEAD is answered like a GET, without the body.
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/api/whoami-v2", accounts.whoami),
    ("GET", f"/api/users/{_NAMESPACE}/overview", namespaces.user_overview),
    ("GET", f"/api/organizations/{_NAMESPACE}/overview", namespaces.organisation_overview),
    ("GET", "/api/settings/repositories", namespaces.repositories),
    ("GET", f"/api/organizations/{_NAMESPACE}/settings/repositories", namespaces.repositories),
    ("POST", "/api/validate-yaml", cards.validate_yaml),
    ("POST", "/api/repos/create", repositories.create),
    ("DELETE", "/api/repos/delete", repositories.delete),
    ("POST", "/api/repos/move", repositories.move),
    ("GET", "/api/(?P<kind>models|datasets|spaces)", searching.search),
    ("GET", _API, repositories.info),
    ("GET", f"{_API}/revision/{_REVISION}", repositories.info),
    ("PUT", f"{_API}/settings", repositories.settings),
    ("GET", f"{_API}/auth-check", accounts.may_read),
    ("GET", f"{_API}/auth-check/write", accounts.may_write),
    ("GET", f"{_API}/refs", repositories.refs),
    ("POST", f"{_API}/branch/{_REVISION}", repositories.create_branch),
    ("DELETE", f"{_API}/branch/{_REVISION}", repositories.delete_branch),
    ("POST", f"{_API}/tag/{_REVISION}", repositories.create_tag),
    ("DELETE", f"{_API}/tag/{_REVISION}", repositories.delete_tag),
    ("POST", f"{_API}/preupload/{_REVISION}", commits.preupload),
    ("POST", f"{_API}/commit/{_REVISION}", commits.commit),
    ("GET", f"{_API}/commits/{_REVISION}", commits.history),
    ("POST", f"{_API}/super-squash/{_REVISION}", squashing.super_squash),
    ("GET", f"{_API}/lfs-files", contents.lfs_files),
    ("GET", f"{_API}/tree/{_REVISION}{_PATH}", contents.tree),
    ("POST", f"{_API}/paths-info/{_REVISION}", contents.paths_info),
    ("GET", f"{_API}/discussions", discussions.listing),
    ("POST", f"{_API}/discussions", discussions.create),
    ("GET", f"{_API}/discussions/{_NUMBER}", discussions.details),
    ("POST", f"{_API}/discussions/{_NUMBER}/comment", discussions.comment),
    ("POST", f"{_API}/discussions/{_NUMBER}/title", discussions.rename),
    ("POST", f"{_API}/discussions/{_NUMBER}/status", discussions.set_status),
    ("POST", f"{_API}/discussions/{_NUMBER}/merge", discussions.merge),
    ("GET", f"{_API}/user-access-request/(?P<status>pending|accepted|rejected)", gates.listing),
    ("POST", f"{_API}/user-access-request/handle", gates.decide),
    ("POST", f"{_API}/user-access-request/grant", gates.grant),
    ("POST", f"{_SITE}/ask-access", gates.ask),
    ("POST", f"{_LFS}/batch", lfs.batch),
    ("GET", f"{_SITE}/resolve/{_REVISION}{_PATH}", contents.resolve),
    ("GET", "/login", accounts.login),
    ("GET", "/", pages.front),
    ("GET", _SITE, pages.repository),
    ("GET", f"{_SITE}/tree/{_REVISION}{_PATH}", pages.files),
    ("GET", f"{_SITE}/blob/{_REVISION}{_PATH}", pages.file),
    ("GET", f"{_SITE}/commits/{_REVISION}", pages.history),
    ("GET", f"{_SITE}/commit/{_REVISION}", pages.commit),
    ("GET", f"{_SITE}/discussions", pages.discussions),
    ("GET", f"{_SITE}/discussions/{_NUMBER}", pages.discussion),
)
_ROUTES = tuple((method, re.compile(pattern, re.DOTALL), handler) for method, pattern, handler in ROUTES)
_LFS_OBJECT = re.compile(f"{_LFS}/(?P<oid>[^/]+)")
_BELOW_A_REPO = re.compile(f"{_API}/.*", re.DOTALL)
_BELOW_NO_REPO = re.compile(
    "/api/(models|datasets|spaces)/(?!semantic-search)[^/]+|(?!/api/)(/(datasets|spaces))?/[^/]+/resolve/.*", re.DOTALL
)


def create_app(
    root: Path,
    *,
    tokens: Mapping[str, str] | None = None,
    owner_token: str | None = None,
    faults: Faults | Sequence[Fault | str] | None = None,
    limits: Limits | None = None,
) -> ASGIApp:
    """The Hub that lives in `root`.

    Args:
        tokens: Maps tokens to users, each of whom owns the namespace of that name.
        owner_token: Whoever shows it is `demo` and may write in every namespace. Without it and `tokens`, this is a hub
            for one person: any token or none acts as `demo`.
        faults: Faults, or a function that answers a request in the Hub's place.
        limits: What a request may cost.

    Raises:
        OSError: The root can not be made or written to.
        InputError: A fault is not written as one.
    """
    hub = Hub(Store(root), make_accounts(tokens, owner_token), limits or Limits())
    intercept = faults if callable(faults) else None

    async def respond(request: Request) -> Response:
        response = intercept(request) if intercept is not None else None
        if response is not None:
            return response
        try:
            return await _respond(request, hub)
        except RefusedError as refused:
            return _refusal_response(request, refused)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is left to read it
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return _refusal_response(request, RefusedError(507, "The disk of this Hub is full"))

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST", "PUT", "DELETE"])])
    return app if faults is None or callable(faults) else Faulty(app, faults)


@dataclass(frozen=True)
class Hub:
    """What answers requests: the repositories, who may do what, and what a request may cost."""

    store: Store
    accounts: Accounts
    limits: Limits


async def _respond(request: Request, hub: Hub) -> Response:
    check_headers(request, hub.limits)
    _refuse_other_sites(request)
    path = _raw_path(request)
    # An upload shows the signature from its batch: like any signed link, it comes without a token.
    if request.method == "PUT" and (match := _LFS_OBJECT.fullmatch(path)):
        return await lfs.receive(Call(request, hub.store, _unquoted(match), b"", None, hub.limits))
    account = hub.accounts.who(request.headers.get("authorization"))
    handler, args = _route("GET" if request.method == "HEAD" else request.method, path)
    body = await read_body(request, hub.limits, stranger=account is None)
    call = Call(request, hub.store, args, body, account, hub.limits, hub.accounts.users)
    return await run_in_threadpool(handler, call)


def _route(method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
    for route_method, pattern, handler in _ROUTES:
        if method == route_method and (match := pattern.fullmatch(path)):
            return handler, _unquoted(match)
    if match := _BELOW_A_REPO.fullmatch(path):
        return _unknown_below_a_repo, _unquoted(match)
    if _BELOW_NO_REPO.fullmatch(path):
        raise repo_not_found()  # an id without namespace, of which this Hub has none
    raise _not_there(method, path)


def _unknown_below_a_repo(call: Call) -> Response:
    """Clients probe for addresses that need not exist, but should hear of a missing repository first."""
    call.readable()
    raise _not_there(call.request.method, _raw_path(call.request))


def _not_there(method: str, path: str) -> RefusedError:
    """What the public Hub has and this one lacks is said, so that nobody looks for a mistake of their own."""
    known = path.startswith("/api/")
    return RefusedError(404, f"The local Hub does not know {method} {path[:200]}" if known else "Not found")


def _raw_path(request: Request) -> str:
    """The path before unquoting: a revision such as `feat/x` arrives as the one segment `feat%2Fx`."""
    try:
        path: str = request.scope["raw_path"].decode("ascii")
    except UnicodeDecodeError:
        raise malformed("The path must be percent-encoded") from None
    return path


def _unquoted(match: re.Match[str]) -> dict[str, str]:
    try:
        return {name: unquote(part, errors="strict") for name, part in match.groupdict().items() if part is not None}
    except UnicodeDecodeError:
        raise malformed("The path is not UTF-8") from None


def _refuse_other_sites(request: Request) -> None:
    """Else any web page could write here through its visitor's browser; clients send no `Origin`."""
    origin = request.headers.get("origin")
    if request.method not in ("GET", "HEAD") and origin not in (None, str(request.base_url).rstrip("/")):
        raise RefusedError(403, "Requests from other web sites are not accepted")


def _refusal_response(request: Request, refused: RefusedError) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return pages.refused(refused)
    # Headers hold one line of ASCII; the body repeats the message as it is.
    line = re.sub(r"[^\x20-\x7e]", "?", refused.message)
    headers = {"X-Error-Message": line, **refused.headers}
    if refused.code is not None:
        headers["X-Error-Code"] = refused.code
    return answer({"error": refused.message, **refused.extra}, refused.status, headers)
