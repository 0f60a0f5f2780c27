"""Load adapters and answer until a signal: which handler answers a request, who may ask, and how a refusal looks.

What runs and waits when the signal comes is finished first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.cards.page import style
from toolkit.core import duration, ignore
from toolkit.core.errors import InputError, ToolkitError
from toolkit.core.folder import unwritable
from toolkit.core.hub_client import public_location, read_token
from toolkit.core.listen import address, is_loopback, listen, shown_token
from toolkit.model import naming
from toolkit.serving import chat
from toolkit.serving.requests import Body, ChatRequest, IdentifyRequest, NameRequest, Refusal, read_body

log = logging.getLogger(__name__)
T = TypeVar("T")

QUEUE = 32  # requests that wait
RETRY_SECONDS = 5
WARM_UP = "A small fox whose tail burns with a blue flame."
_PAGES = Environment(loader=PackageLoader("toolkit.serving", "."), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True, slots=True)
class Served:
    """An adapter under the name that requests give, and the id of its base."""

    name: str
    base: str
    answerer: naming.Answerer


@dataclass(slots=True)
class Service:
    """The handlers, and what they share while the server runs.

    Attributes:
        served: The adapters by name.
        compute: The one thread that asks them.
        jobs: What it does and what waits for it.
        started: Seconds of the epoch.
        requests, seconds: How many were answered, and how long that took, by path and status.
        tokens: Of conversations, by `prompt_tokens` and `completion_tokens`.
    """

    served: dict[str, Served]
    compute: ThreadPoolExecutor
    jobs: set[Future[Any]] = field(default_factory=set)
    started: float = field(default_factory=time.time)
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)
    tokens: Counter[str] = field(default_factory=Counter)

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do the work after what waits already, or not at all where it is cancelled before. Raises `Refusal` (503)."""
        if len(self.jobs) > QUEUE:
            said = f"{QUEUE} requests wait already. Try again in a moment."
            raise Refusal(503, said, {"Retry-After": str(RETRY_SECONDS)})
        job = self.compute.submit(work)
        self.jobs.add(job)
        job.add_done_callback(self.jobs.discard)
        return asyncio.wrap_future(job)

    def chosen(self, body: Body) -> Served:
        """The adapter that a request names. Raises `Refusal` (404)."""
        name = next(iter(self.served)) if body.model is None else body.model
        if name not in self.served:
            said = f"There is no model {name[:200]}. There are: {', '.join(self.served)}."
            raise Refusal(404, said, param="model", code="model_not_found")
        return self.served[name]

    async def ask(self, kind: type[Body], verb: Callable[..., Any], request: Request) -> Response:
        body = await read_body(request, kind)
        given = body.model_dump(include=set(kind.model_fields) - {"model"})
        answer = await _unless_gone(request, self.submit(partial(verb, self.chosen(body).answerer, **given)))
        return JSONResponse(asdict(answer))

    async def chat(self, request: Request) -> Response:
        body = await read_body(request, ChatRequest)
        served, gone, deltas = self.chosen(body), threading.Event(), asyncio.Queue[dict[str, Any] | None]()
        loop = asyncio.get_running_loop()

        def put(delta: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(deltas.put_nowait, delta)

        job = self.submit(partial(chat.complete, served.answerer, body, put if body.stream else ignore, gone.is_set))
        job.add_done_callback(lambda _: deltas.put_nowait(None))
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": served.name}
        try:
            # What cannot be answered is refused before a stream begins: the first token decides.
            if body.stream and (first := await _unless_gone(request, asyncio.ensure_future(deltas.get()))):
                events = self._events(head, body, first, deltas, job, gone)
                return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
            completion = await _unless_gone(request, job)
        except ClientDisconnect:
            gone.set()
            job.cancel()
            raise
        self.tokens.update(completion["usage"])
        return JSONResponse({**head, "object": "chat.completion", **completion})

    async def _events(
        self,
        head: dict[str, Any],
        body: ChatRequest,
        delta: dict[str, Any] | None,
        deltas: asyncio.Queue[dict[str, Any] | None],
        job: asyncio.Future[dict[str, Any]],
        gone: threading.Event,
    ) -> AsyncIterator[str]:
        """The chunks of a stream; the model stops writing when nobody reads them."""

        def event(choices: Sequence[dict[str, Any]], **others: object) -> str:
            return f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': choices, **others})}\n\n"

        try:
            roles = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            yield event([{"index": number, **roles} for number in range(body.n or 1)])
            while delta is not None:
                yield event([delta])
                delta = await deltas.get()
            if isinstance(error := job.exception(), ToolkitError):
                yield f"data: {json.dumps(_shown(_refusal(error)))}\n\n"
                return
            usage = job.result()["usage"]
            self.tokens.update(usage)
            if (body.stream_options or {}).get("include_usage"):
                yield event([], usage=usage)
            yield "data: [DONE]\n\n"
        finally:
            gone.set()

    async def models(self, _: Request) -> Response:
        kept = {"object": "model", "created": int(self.started)}
        data = [{"id": each.name, **kept, "owned_by": each.base} for each in self.served.values()]
        return JSONResponse({"object": "list", "data": data})

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "models": list(self.served), "queue": len(self.jobs)})

    async def metrics(self, _: Request) -> Response:
        """In the text format of Prometheus."""
        labels = {key: f'{{path="{key[0]}",status="{key[1]}"}}' for key in self.requests}
        quoted = partial(json.dumps, ensure_ascii=False)  # as Prometheus does
        loaded = [f"{{adapter={quoted(each.name)},base={quoted(each.base)}}}" for each in self.served.values()]
        metrics: dict[str, tuple[str, dict[str, float]]] = {
            "pkt_requests_total": ("counter", {labels[key]: self.requests[key] for key in labels}),
            "pkt_request_seconds_total": ("counter", {labels[key]: self.seconds[key] for key in labels}),
            "pkt_prompt_tokens_total": ("counter", {"": self.tokens["prompt_tokens"]}),
            "pkt_completion_tokens_total": ("counter", {"": self.tokens["completion_tokens"]}),
            "pkt_queue": ("gauge", {"": len(self.jobs)}),
            "pkt_adapter_loaded": ("gauge", dict.fromkeys(loaded, 1)),
            "pkt_start_time_seconds": ("gauge", {"": self.started}),
        }
        lines = (
            [f"# TYPE {name} {kind}\n", *(f"{name}{label} {value}\n" for label, value in values.items())]
            for name, (kind, values) in metrics.items()
        )
        return PlainTextResponse("".join(line for group in lines for line in group))

    async def page(self, _: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        shown = {"service": self, "uptime": duration(time.time() - self.started), "nonce": nonce}
        page = _PAGES.get_template("page.jinja").render(style=Markup(style()), **shown)  # our own file
        policy = f"default-src 'none'; connect-src 'self'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        policy += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def create_app(served: Sequence[Served], compute: ThreadPoolExecutor, api_key: str | None = None) -> ASGIApp:
    """The application that asks adapters in the one thread of `compute`.

    Requests must show the key; without one they must name this machine as only it names itself.
    """
    service = Service({each.name: each for each in served}, compute)
    routes = [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/identify", partial(service.ask, IdentifyRequest, naming.identify), methods=["POST"]),
        Route("/v1/name", partial(service.ask, NameRequest, naming.name), methods=["POST"]),
        Route("/v1/models", service.models),
        Route("/health", service.health),
        Route("/metrics", service.metrics),
        Route("/", service.page),
    ]
    kinds = (HTTPException, ToolkitError, ClientDisconnect, Exception)
    router = Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, refused))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        request = Request(scope)
        try:
            refusal = _may_not(request, api_key)
            await (refused(request, refusal) if refusal else router)(scope, receive, watched)
        finally:
            path, seconds = scope["path"], time.perf_counter() - started
            key = (path if any(path == route.path for route in routes) else "other", status)
            service.requests[key] += 1
            service.seconds[key] = service.seconds.get(key, 0) + seconds
            log.debug(
                "%s %.200s %d %.0f ms",
                scope["method"],
                scope["raw_path"].decode("ascii", "backslashreplace"),
                status,
                1000 * seconds,
            )

    return app


def _may_not(request: Request, api_key: str | None) -> Refusal | None:
    """Why this client gets no answer; None where it does."""
    if request.url.path == "/health":
        return None
    if request.headers.get("origin") not in (None, str(request.base_url).rstrip("/")):
        return Refusal(403, "Requests from other web sites are not accepted.")
    if api_key is None:
        # A page whose site's name leads here (DNS rebinding) would ask in the name of its visitor.
        if is_loopback(re.sub(r":\d+$", "", request.headers.get("host", "")).strip("[]")):
            return None
        return Refusal(403, "Without a key this server answers to 127.0.0.1 and localhost only. Start it with a key.")
    if secrets.compare_digest(shown_token(request.headers.get("authorization", "")).encode(), api_key.encode()):
        return None
    # A browser asks its user, and shows the key with what the page sends.
    asked = 'Basic realm="The key of this server, as the password"' if request.url.path == "/" else "Bearer"
    said = "This server wants its key. Send `Authorization: Bearer KEY`."
    return Refusal(401, said, {"WWW-Authenticate": asked}, code="invalid_api_key")


async def _unless_gone(request: Request, job: asyncio.Future[T]) -> T:
    """The result of a job, which is cancelled, with `ClientDisconnect`, when the client goes before."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.ensure_future(disconnected())
    await asyncio.wait((job, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if job.done():
        return job.result()
    job.cancel()
    raise ClientDisconnect


def refused(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in an error."""
    refusal = _refusal(error, f"{request.method} {request.url.path[:200]}")
    return JSONResponse(_shown(refusal), refusal.status_code, refusal.headers)


def _refusal(error: Exception, address: str = "") -> Refusal:
    match error:
        case Refusal():
            return error
        case HTTPException():
            return Refusal(error.status_code, f"This server does not know {address}.", error.headers)
        case ToolkitError():
            return Refusal(400 if isinstance(error, InputError) else 503, str(error))
        case ClientDisconnect():
            return Refusal(499, "Nobody waits for the answer.")
    return Refusal(500, "The server has a bug. Its log says more.")


def _shown(refusal: Refusal) -> dict[str, Any]:
    """In the shape of OpenAI's API."""
    kind = "server_error" if refusal.status_code >= 500 else "invalid_request_error"
    return {"error": {"message": refusal.detail, "type": kind, "param": refusal.param, "code": refusal.code}}


# The server.


class _Server(uvicorn.Server):
    """Ends well at a first signal, and at once at a second."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True


def serve(
    adapters: Sequence[str | Path],
    candidates: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    base: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: Path | None = None,
    on_ready: Callable[[str], None] = print,
) -> None:
    """Answer over HTTP with adapters of one base, until SIGINT or SIGTERM; requests that came before are finished.

    Args:
        adapters: Folders or Hub ids; requests name one by its folder's name or its id.
        candidates: Known names, and `revision` and `base`, as `open_adapter` takes them, for all adapters.
        host: A name or address of this machine; any but loopback needs a key.
        port: 0 takes a free one.
        api_key_file: Holds the key that requests must show; made, for its owner only, where it is not there.
        on_ready: Called with the address when requests are answered.

    Raises:
        InputError: Two adapters have one name, the address or the key cannot be used; or as `open_adapters`.
        HubError, EnvironmentLacks: As `open_adapters`.
    """
    names = [Path(each).resolve().name if Path(each).is_dir() else str(each) for each in adapters]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"Two adapters are called {min(twice)}.", "Rename the folder of one.")
    if api_key_file is None and not is_loopback(host):
        remedy = "Name a file for one as `api_key_file`; it is made if it is not there."
        raise InputError(f"At {host} other machines could ask without a key.", remedy)
    with listen(host, port) as listener, ThreadPoolExecutor(1, "compute") as compute:
        api_key = None if api_key_file is None else _kept_key(api_key_file)
        opened = naming.open_adapters(adapters, candidates, revision=revision, base=base)
        served = []
        for name, answerer in zip(names, opened, strict=True):
            # The first answer takes long.
            compute.submit(naming.name, answerer, WARM_UP, 1).result()
            located = base or answerer.model.peft_config["default"].base_model_name_or_path
            served.append(Served(name, public_location(str(located)), answerer))
        app = create_app(served, compute, api_key)
        on_ready(address(listener))
        _Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none")).run([listener])


def _kept_key(file: Path) -> str:
    """The key in a file, which is made if it is not there; only its owner can read it then."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as made:
            made.write(f"pkt_{secrets.token_urlsafe(32)}\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise unwritable(file, error) from error
    return read_token(file)
