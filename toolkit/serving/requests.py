"""What a request may ask, checked, and how it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request

from toolkit.core.layout import NAMES_GIVEN

MAX_BODY = 2**20  # bytes
BODY_SECONDS = 30
MOST = 100  # names, candidates or choices
# Fields of OpenAI's API that would change an answer here; others do not, and are left out.
UNSUPPORTED = {
    *("audio", "frequency_penalty", "functions", "logit_bias", "modalities", "presence_penalty", "response_format"),
    *("tools", "web_search_options"),
}
# What changes nothing, as clients spell it.
OFF: tuple[object, ...] = (None, False, 0, [], {}, ["text"], {"type": "text"})


class Refusal(HTTPException):
    """Another answer than was asked for: what was found and what to do, and the field that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code


class Body(BaseModel):
    """A request; `model` is the name of an adapter, by default the first."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str | None = None


class IdentifyRequest(Body):
    """As the arguments of `identify`."""

    description: str
    top: int = Field(NAMES_GIVEN, ge=1, le=MOST)


class NameRequest(Body):
    """As the arguments of `name`."""

    description: str
    count: int = Field(NAMES_GIVEN, ge=1, le=MOST)
    seed: int = Field(0, ge=0, lt=2**32)
    known: bool = False


def _joined(value: object) -> object:
    """The text of a content that is a list of parts."""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return value


class Message(BaseModel):
    """A turn; `developer` is another name of `system`."""

    role: Annotated[
        Literal["system", "user", "assistant"], BeforeValidator(lambda role: "system" if role == "developer" else role)
    ]
    content: Annotated[str, BeforeValidator(_joined)]


class ChatRequest(Body):
    """As in OpenAI's API, and `top_k`. What is not given, the adapter's own decoding decides."""

    messages: list[Message] = Field(min_length=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=MOST)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _refuse_others(self) -> Self:
        others = [name for name, value in (self.model_extra or {}).items() if name in UNSUPPORTED and value not in OFF]
        if others:
            raise ValueError(f"This server does not support {', '.join(map(repr, others))}. Leave it out.")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'logprobs'. Give both.")
        return self


Kind = TypeVar("Kind", bound=Body)


async def read_body(request: Request, kind: type[Kind]) -> Kind:
    """The JSON body of a request.

    Raises:
        Refusal: It is not JSON (415, 400), too slow (408), too long (413), or asks for what cannot be done (400).
    """
    # Without asking first, a page of another site can make a browser send forms and plain texts, and no JSON.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "The body must be JSON. Send it with `Content-Type: application/json`.")
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                body += chunk if size <= MAX_BODY else b""
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {BODY_SECONDS} seconds. Send it again.") from None
    if size > MAX_BODY:
        raise Refusal(413, f"The body has {size:,} bytes. This server takes {MAX_BODY:,} at most.")
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        param, said = ".".join(map(str, wrong["loc"])), wrong["msg"].removeprefix("Value error, ")
        raise Refusal(400, f"{param}: {said}" if param else said, param=param or None) from None
