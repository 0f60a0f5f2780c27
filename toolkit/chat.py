"""Messages to token ids, and which of them are the answer. The only place that does it: training, ranking, generation,
the card's snippet and the validator call it, so training text and inference text can not drift apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import TemplateError

from toolkit.errors import InputError

REQUEST = "다음 특성을 살린 포켓몬식 이름을 지어줘:"

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Example:
    """One supervised conversation.

    Attributes:
        input_ids: Prompt, answer and its end of turn, `[tokens]`.
        answer_start: Index of the first answer token; everything from there on is supervised, nothing before it.
    """

    input_ids: list[int]
    answer_start: int

    @property
    def answer_ids(self) -> list[int]:
        """The supervised tokens: the answer and the token that ends its turn."""
        return self.input_ids[self.answer_start :]


def naming_messages(description: str, request: str = REQUEST, system: str | None = None) -> list[dict[str, str]]:
    """The conversation that asks for a name: one user turn, the request, a blank line, the description.

    A system turn comes before it when there is one.
    """
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": f"{request}\n\n{description}"}]


def request_variants(count: int) -> list[str]:
    """The request and its Korean paraphrases, `count` of them in all.

    Raises:
        InputError: There are not so many.
    """
    listed = [REQUEST, *(files("toolkit") / "requests.txt").read_text(encoding="utf-8").split("\n")]
    requests = [request for request in listed if request]
    if count > len(requests):
        raise InputError(
            f"There are {len(requests)} variants of the request, not {count}.", "Ask for fewer with --request-variants."
        )
    return requests[:count]


def with_answer(messages: Messages, answer: str) -> list[dict[str, str]]:
    """The conversation with the model's answer appended."""
    return [*messages, {"role": "assistant", "content": answer}]


def prompt_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """Token ids that inference sends: the chat template with its generation prompt, `[tokens]`.

    Raises:
        InputError: The tokenizer has no chat template, or one that refuses the conversation or does not write exactly
            one begin-of-text token where the tokenizer wants one; or a text holds a control token.
    """
    if not tokenizer.chat_template:
        raise InputError("The base's tokenizer has no chat template.", "Choose an instruction-tuned base.")
    _refuse_control_tokens(tokenizer, messages)
    ids = _rendered(tokenizer, messages, add_generation_prompt=True)
    beginnings = 0 if tokenizer.bos_token_id is None else ids.count(tokenizer.bos_token_id)
    if beginnings > 1:
        raise InputError("The base's chat template writes its begin-of-text token twice.", "Choose another base.")
    if beginnings == 0 and _begins_plain_text(tokenizer):
        raise InputError(
            "The base's chat template writes no begin-of-text token, which its tokenizer puts before any text.",
            "Choose another base.",
        )
    return ids


def encode(tokenizer: Any, messages: Messages) -> Example:
    """A conversation whose last turn is the answer, as token ids with the answer marked.

    The prompt part equals `prompt_ids(tokenizer, messages[:-1])` token for token. What a template writes after the end
    of the answer's turn (a line break) is left out: no model needs to learn it, and generation stops before it.

    Raises:
        InputError: The last turn is no assistant turn, the template has no end of turn, it renders the prompt
            differently once an answer follows, or as `prompt_ids`.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise InputError("The last message is not an assistant turn.", "Each row ends with the answer.")
    prompt = prompt_ids(tokenizer, messages[:-1])
    _refuse_control_tokens(tokenizer, messages[-1:])
    whole = _rendered(tokenizer, messages, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise InputError(
            "The base's chat template renders the prompt differently once an answer follows.",
            "Choose a base whose template is prefix-stable.",
        )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    for index in range(len(prompt), len(whole)):
        if whole[index] in special:
            return Example(whole[: index + 1], len(prompt))
    raise InputError(
        "The base's chat template does not end the answer's turn with a special token.", "Choose another base."
    )


def _rendered(tokenizer: Any, messages: Messages, *, add_generation_prompt: bool) -> list[int]:
    """Token ids of the rendered template, which is the base's own program and can fail in any way that Jinja can."""
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=add_generation_prompt, return_dict=False
        )
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
        said = " ".join(str(getattr(error, "message", None) or error).split())
        raise InputError(
            f"The base's chat template does not render this conversation: {said}{'' if said.endswith('.') else '.'}",
            "Change the conversation, or choose another base.",
        ) from error
    return ids


def _begins_plain_text(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]


def end_of_turn_ids(tokenizer: Any) -> list[int]:
    """Ids at which generation stops: the token that ends an answer in this template, the tokenizer's end of text."""
    example = encode(tokenizer, with_answer(naming_messages("a"), "b"))
    return list(
        dict.fromkeys(
            [example.input_ids[-1], *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])]
        )
    )


def control_tokens(tokenizer: Any) -> set[str]:
    """Texts that this tokenizer reads as control tokens wherever they stand."""
    return {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}


def _refuse_control_tokens(tokenizer: Any, messages: Messages) -> None:
    for token in control_tokens(tokenizer):
        for message in messages:
            if token in message["content"]:
                raise InputError(
                    f"A {message['role']} text holds the control token {token}.", "Remove it from the data."
                )
