"""The Hub as an ASGI application, in a thread for the length of a `with` block or in the foreground until interrupted.

Which handler answers a request, and how a refusal looks.
"""

import errno
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO
from urllib.parse import unquote

import uvicorn
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from toolkit.core.hub_client import read_token
from toolkit.core.listen import address, listen, running
from toolkit.hub.local import api, files, pages
from toolkit.hub.local.objects import RefusedError, repo_not_found
from toolkit.hub.local.request import MAX_BODY, Call, answer, hash_tokens, who
from toolkit.hub.local.store import Store

Handler = Callable[[Call], Response]

TOKEN = "token"  # the file in the root

_REPO = "(?P<namespace>[^/]+)/(?P<name>[^/]+?)"
_API = f"/api/(?P<kind>models|datasets|spaces)/{_REPO}"
_SITE = f"(?!/api/)(?:/(?P<kind>datasets|spaces))?/{_REPO}"
_REVISION = "(?P<revision>[^/]+)"
_NUMBER = "(?P<number>[0-9]{1,9})"
_PATH = "(?:/(?P<path>.*))?"
_LFS = rf"{_SITE}\.git/info/lfs/objects"

# The first match answers. A HEAD is answered like a GET, without the body.
ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/api/whoami-v2", api.whoami),
    ("POST", "/api/validate-yaml", api.validate_yaml),
    ("POST", "/api/repos/create", api.create),
    ("DELETE", "/api/repos/delete", api.delete),
    ("POST", "/api/repos/move", api.move),
    ("GET", "/api/(?P<kind>models|datasets|spaces)", api.search),
    ("GET", _API, api.info),
    ("GET", f"{_API}/revision/{_REVISION}", api.info),
    ("PUT", f"{_API}/settings", api.settings),
    ("GET", f"{_API}/auth-check", api.may_read),
    ("GET", f"{_API}/refs", api.refs),
    ("POST", f"{_API}/branch/{_REVISION}", api.create_branch),
    ("POST", f"{_API}/tag/{_REVISION}", api.create_tag),
    ("DELETE", f"{_API}/(?P<ref>branch|tag)/{_REVISION}", api.delete_ref),
    ("POST", f"{_API}/super-squash/{_REVISION}", api.squash),
    ("GET", f"{_API}/commits/{_REVISION}", api.history),
    ("GET", f"{_API}/discussions", api.pulls),
    ("POST", f"{_API}/discussions/{_NUMBER}/status", api.set_pull_status),
    ("POST", f"{_API}/discussions/{_NUMBER}/merge", api.merge_pull),
    ("POST", f"{_API}/preupload/{_REVISION}", files.preupload),
    ("POST", f"{_API}/commit/{_REVISION}", files.commit),
    ("GET", f"{_API}/tree/{_REVISION}{_PATH}", files.tree),
    ("POST", f"{_API}/paths-info/{_REVISION}", files.paths_info),
    ("GET", f"{_API}/xet-(?:read|write)-token/{_REVISION}", api.no_xet),
    ("GET", rf"{_SITE}(?:\.git)?/info/refs", api.no_git),
    ("POST", f"{_LFS}/batch", files.lfs_batch),
    ("GET", f"{_SITE}/resolve/{_REVISION}{_PATH}", files.resolve),
    ("GET", "/login", pages.login),
    ("GET", "/", pages.front),
    ("GET", _SITE, pages.repository),
    ("GET", f"{_SITE}/tree/{_REVISION}{_PATH}", pages.tree),
    ("GET", f"{_SITE}/blob/{_REVISION}{_PATH}", pages.file),
    ("GET", f"{_SITE}/commits/{_REVISION}", pages.commits),
    ("GET", f"{_SITE}/commit/{_REVISION}", pages.tree),
    ("GET", f"{_SITE}/discussions/{_NUMBER}", pages.pull_request),
)
_ROUTES = tuple((method, re.compile(pattern, re.DOTALL), handler) for method, pattern, handler in ROUTES)
_LFS_OBJECT = re.compile(f"{_LFS}/(?P<oid>[^/]+)")
_BELOW_A_REPO = re.compile(f"{_API}/.*", re.DOTALL)
_BELOW_NO_REPO = re.compile(
    "/api/(models|datasets|spaces)/[^/]+|(?!/api/)(/(datasets|spaces))?/[^/]+/resolve/.*", re.DOTALL
)


def create_app(root: Path, *, tokens: Mapping[str, str] | None = None, owner_token: str | None = None) -> ASGIApp:
    """The Hub that lives in `root`; arguments and errors as those of `running_hub`."""
    store, users = Store(root), hash_tokens(tokens, owner_token)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await _respond(request, store, users)
        except RefusedError as refused:
            response = _refusal_response(request, refused)
        except ClientDisconnect:
            response = Response(status_code=400)  # no client is left to read it
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            response = _refusal_response(request, RefusedError(507, "The disk of this Hub is full"))
        await response(scope, receive, send)

    return app


async def _respond(request: Request, store: Store, users: Mapping[bytes, str] | None) -> Response:
    origin = request.headers.get("origin")
    # A write by another site's page through its visitor's browser; the clients send no `Origin`.
    if request.method not in ("GET", "HEAD") and origin not in (None, str(request.base_url).rstrip("/")):
        raise RefusedError(403, "Requests from other web sites are not accepted")
    path = _raw_path(request)
    # An upload shows the signature from its batch: like any signed link, it comes without a token.
    if request.method == "PUT" and (match := _LFS_OBJECT.fullmatch(path)):
        return await files.lfs_upload(Call(request, store, _unquoted(match), BytesIO(), None))
    user = who(users, request.headers.get("authorization"))
    handler, args = _route("GET" if request.method == "HEAD" else request.method, path)
    limit = None if user is not None and handler is files.commit else MAX_BODY
    with SpooledTemporaryFile(2**20, dir=str(store.incoming)) as body:
        await _read_body(request, body, limit)
        return await run_in_threadpool(handler, Call(request, store, args, body, user))


async def _read_body(request: Request, body: IO[bytes], limit: int | None) -> None:
    """Write the whole body to a file. Raises `RefusedError` (413) for more than `limit` bytes."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if limit is None or size <= limit:
            body.write(chunk)
    if limit is not None and size > limit:
        raise RefusedError(413, f"The body has {size:,} bytes: this Hub takes {limit:,} at most")
    body.seek(0)


def _route(method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
    for route_method, pattern, handler in _ROUTES:
        if method == route_method and (match := pattern.fullmatch(path)):
            return handler, _unquoted(match)
    if match := _BELOW_A_REPO.fullmatch(path):
        return _unknown, _unquoted(match)
    if _BELOW_NO_REPO.fullmatch(path):
        raise repo_not_found()  # an id without namespace; this Hub has none
    return _unknown, {}


def _unknown(call: Call) -> Response:
    """Refuse an address that this Hub lacks. A client that probes for it hears of a missing repository first."""
    if call.args:
        call.readable()
    raise RefusedError(404, f"The local Hub does not know {call.request.method} {_raw_path(call.request)[:200]}")


def _raw_path(request: Request) -> str:
    """The path before unquoting: a revision such as `feat/x` arrives as the one segment `feat%2Fx`."""
    path: str = request.scope["raw_path"].decode("utf-8", "surrogateescape")
    return path


def _unquoted(match: re.Match[str]) -> dict[str, str]:
    """The parts of a path; what is not UTF-8 becomes surrogates, which no name may hold."""
    parts = match.groupdict().items()
    return {name: unquote(part, errors="surrogateescape") for name, part in parts if part is not None}


def _refusal_response(request: Request, refused: RefusedError) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return pages.refused(refused)
    # Headers hold one line of ASCII; the body repeats the message as it is.
    line = re.sub(r"[^\x20-\x7e]", "?", refused.message)
    headers = {"X-Error-Message": line, "X-Request-Id": secrets.token_hex(8), **refused.headers}
    if refused.code is not None:
        headers["X-Error-Code"] = refused.code
    return answer({"error": refused.message, **refused.extra}, refused.status, headers)


@contextmanager
def running_hub(
    root: Path,
    *,
    port: int = 0,
    tokens: Mapping[str, str] | None = None,
    owner_token: str | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> Iterator[str]:
    """Serve the Hub in `root` on 127.0.0.1 and yield its endpoint.

    Args:
        port: 0 takes a free one.
        tokens: Maps tokens to users; each may write in the namespace of that name.
        owner_token: The token of `demo`, who may write everywhere. Without it and `tokens`, everybody is `demo`.
        wrap: Puts something before the application, as tests do that make requests fail.

    Raises:
        ToolkitError: The folder or the port cannot be used.
    """
    with running(_server(wrap(create_app(root, tokens=tokens, owner_token=owner_token))), port) as endpoint:
        yield endpoint


def serve_forever(
    root: Path,
    host: str,
    port: int,
    on_ready: Callable[[str, Path], None],
    fill: Callable[[str, Path], None] = lambda *_: None,
    *,
    token_file: Path | None = None,
) -> None:
    """Serve the Hub in `root` until SIGINT or SIGTERM, which is raised again after a clean shutdown.

    Args:
        on_ready: Called with the endpoint, as soon as it can be used, and with the file that holds the token.
        fill: Called with the endpoint of the same Hub on loopback, and with the token's file, to put into the Hub what
            shall be in it from the start: after the address is taken, before it is served.
        token_file: Holds the token of the Hub's owner; by default one is made and kept in `root`.

    Raises:
        ToolkitError: The folder, the address or the token file cannot be used.
    """
    with listen(host, port) as listener:
        token_file = token_file or kept_token(root)
        token = read_token(token_file)
        with running_hub(root, owner_token=token) as endpoint:
            fill(endpoint, token_file)
        server = _server(create_app(root, owner_token=token))
        on_ready(address(listener), token_file)
        server.run(sockets=[listener])


def kept_token(root: Path) -> Path:
    """The file in `root` that holds the Hub's token, made if it is not there. Only its owner can read it.

    Raises:
        ToolkitError: The file holds no token, or cannot be read or written.
    """
    # The form of the public Hub's tokens, which `without_secrets` keeps out of logs and errors.
    token = f"hf_{secrets.token_hex(17)}\n"
    file = Store(root).kept(TOKEN, token.encode("ascii"))
    read_token(file)
    return file


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
    )
    return uvicorn.Server(config)
