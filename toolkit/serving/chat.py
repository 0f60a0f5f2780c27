"""A conversation in, its choices out as OpenAI's API says them, whole and while they are written.

Log-probabilities are those before temperature, top-k and top-p, of all tokens, whatever the choices are drawn with.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import InputError
from toolkit.core.recipe import DecodingSettings
from toolkit.model.chat import end_of_turn_ids, prompt_ids
from toolkit.model.generate import too_long
from toolkit.model.loading import nan_error
from toolkit.model.memory import memory_errors
from toolkit.model.naming import Answerer
from toolkit.serving.requests import ChatRequest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# What the bytes of an unfinished letter are decoded as.
UNFINISHED = "\ufffd"
# Temperatures below are zero: logits divided by them end float32.
COLDEST = 1e-5
# OpenAI's word for a probability of zero.
LOWEST = -9999.0


@dataclass(slots=True)
class Choice:
    """An answer as far as it is written.

    Attributes:
        tokens: Token ids, the end of the turn included.
        text: Without what may still become another letter or one of the texts to stop at.
        logprobs: An entry a token, but for the end of the turn, where they are asked for.
        ended: Why it is finished, `stop` or `length`; None before.
    """

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    ended: str | None = None


@dataclass(slots=True)
class Writer:
    """What makes tokens into choices, for one request.

    Attributes:
        ends: Ids at which a turn ends.
        longest: Tokens of a choice at most.
        stops: Texts before which a choice ends.
        top: Likeliest tokens to name in each place; None where no log-probabilities are asked for.
        logits: Of the place that is written, `[choices, vocabulary]`.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: set[int]
    longest: int
    stops: list[str]
    top: int | None
    logits: torch.Tensor | None = None

    def keep(self, _ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keep logits before temperature, top-k and top-p change them. Raises InputError where they are NaN."""
        if not bool(logits.amax(-1).isfinite().all()):
            raise nan_error()
        self.logits = logits
        return logits

    def add(self, choice: Choice, index: int, token: int) -> tuple[str, list[dict[str, Any]]]:
        """Add a token to the choice of an index; returns the text and the entries that it adds."""
        choice.tokens.append(token)
        before, entries = len(choice.text), []
        if token in self.ends:
            choice.ended = "stop"
        elif self.top is not None and self.logits is not None:
            entries = [self._entry(self.logits[index].float().log_softmax(-1), token, self.top)]
            choice.logprobs += entries
        written = choice.tokens[:-1] if choice.ended else choice.tokens
        text: str = self.tokenizer.decode(written, skip_special_tokens=True)
        cut = min((at for stop in self.stops if (at := text.find(stop)) >= 0), default=None)
        if cut is not None:
            text, choice.ended = text[:cut], "stop"
        elif len(choice.tokens) == self.longest:
            choice.ended = choice.ended or "length"
        choice.text = text if choice.ended else text[: len(text) - self._open(text)]
        return choice.text[before:], entries

    def _open(self, text: str) -> int:
        """How many characters at the end of a text may become another letter or the beginning of a stop."""
        begun = (size for stop in self.stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
        return max(len(text) - len(text.rstrip(UNFINISHED)), max(begun, default=0))

    def _entry(self, found: torch.Tensor, token: int, top: int) -> dict[str, Any]:
        likeliest = found.topk(top).indices.tolist()
        return self._said(found, token) | {"top_logprobs": [self._said(found, each) for each in likeliest]}

    def _said(self, found: torch.Tensor, token: int) -> dict[str, Any]:
        text: str = self.tokenizer.decode([token])
        # Which bytes a part of a letter has, the text does not say.
        exact = None if UNFINISHED in text else list(text.encode())
        return {"token": text, "logprob": max(float(found[token]), LOWEST), "bytes": exact}


def complete(
    answerer: Answerer, asked: ChatRequest, on_delta: Callable[[dict[str, Any]], None], gone: Callable[[], bool]
) -> dict[str, Any]:
    """Answer a conversation: `choices` and `usage`.

    Args:
        answerer: The adapter.
        asked: The request.
        on_delta: Called for each token of each choice with that choice's part of a chunk.
        gone: Whether nobody waits any more, so that writing ends early.

    Raises:
        InputError: The conversation does not suit the template or the context, or the probabilities are NaN.
        EnvironmentLacks: The memory is too small.
    """
    import torch

    model, tokenizer, own = answerer.model, answerer.tokenizer, answerer.decoding
    prompt = prompt_ids(tokenizer, [message.model_dump() for message in asked.messages])
    longest = asked.max_completion_tokens or asked.max_tokens or own.max_new_tokens
    if reason := too_long(model, prompt, own.model_copy(update={"max_new_tokens": longest})):
        raise InputError(f"The conversation is too long: {reason}.", "Shorten it, or lower `max_tokens`.")
    how, wanted = _sampling(asked, own), asked.n or 1
    # The likeliest answer is the same however often it is written.
    choices = [Choice() for _ in range(wanted if how["do_sample"] else 1)]
    ends = end_of_turn_ids(tokenizer, model.generation_config)
    stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    top = (asked.top_logprobs or 0) if asked.logprobs else None
    writer = Writer(tokenizer, set(ends), longest, list(filter(None, stops)), top)

    def written(ids: torch.Tensor, _scores: object, **_: object) -> torch.Tensor:
        for index, choice in enumerate(choices):
            if choice.ended is None:
                text, entries = writer.add(choice, index, int(ids[index, -1]))
                delta = {"delta": {"content": text}, **_ending(entries, asked, choice.ended)}
                for number in range(index, wanted, len(choices)):
                    on_delta({"index": number, **delta})
        return torch.tensor([gone() or choice.ended is not None for choice in choices], device=ids.device)

    torch.manual_seed(secrets.randbits(63) if asked.seed is None else asked.seed)
    with memory_errors(), torch.inference_mode():
        read = answerer.reader.read([prompt])
        if read.cache is not None:
            # The last token is read again, because `generate` begins with a pass.
            how["past_key_values"] = read.continuing(len(choices), without=1)
        tokens = read.tokens.repeat_interleave(len(choices), 0)
        model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=longest,
            eos_token_id=ends,
            pad_token_id=ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            logits_processor=[writer.keep],
            stopping_criteria=[written],
            **how,
        )
    count = sum(len(choice.tokens) for choice in choices) * wanted // len(choices)
    said = [
        {"message": {"role": "assistant", "content": each.text}, **_ending(each.logprobs, asked, each.ended)}
        for each in choices * (wanted // len(choices))
    ]
    usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
    return {"choices": [{"index": number, **each} for number, each in enumerate(said)], "usage": usage}


def _sampling(asked: ChatRequest, own: DecodingSettings) -> dict[str, Any]:
    """How tokens are drawn, for `generate`."""
    temperature = own.temperature if asked.temperature is None else asked.temperature
    if temperature < COLDEST:
        return {"do_sample": False}
    top_k = own.top_k if asked.top_k is None else asked.top_k
    return {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": asked.top_p or own.top_p}


def _ending(entries: list[dict[str, Any]], asked: ChatRequest, ended: str | None) -> dict[str, Any]:
    """What a choice and a part of it have alike."""
    return {"logprobs": {"content": entries} if asked.logprobs else None, "finish_reason": ended}
