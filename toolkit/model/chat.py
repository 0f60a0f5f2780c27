"""Messages in; token ids out, with the answer marked. Training, ranking, generation and the validator all call it.

So training text and inference text cannot drift apart. `set_template` makes the saved tokenizer send the same to
everybody else, the card's snippet included.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from toolkit.core.errors import InputError
from toolkit.model.chat_template import (
    OTHER_TEMPLATE,
    PROMPT_CHANGES,
    TOKENS_JOIN,
    Format,
    Messages,
    answer_start,
    dropped_role,
    no_end_error,
    read_format,
    render,
)

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

REQUEST = "다음 특성을 살린 포켓몬식 이름을 지어줘:"
# Asks for the description of a name: a lesson of training, nothing that an adapter is asked in use.
WAY_BACK = "다음 이름의 포켓몬을 묘사해줘:"


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
    """The conversation that asks for a name: a system turn where there is one, request, blank line, description."""
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, {"role": "user", "content": f"{request}\n\n{description}"}]


def request_variants(count: int) -> list[str]:
    """The request and its Korean paraphrases, `count` of them in all.

    Raises:
        InputError: There are not so many.
    """
    listed = [REQUEST, *(files("toolkit.model") / "request_variants.txt").read_text(encoding="utf-8").split("\n")]
    requests = [request for request in listed if request]
    if count > len(requests):
        raise InputError(
            f"There are {len(requests)} variants of the request, not {count}.", "Lower `dataset.request_variants`."
        )
    return requests[:count]


def set_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Put the template that training uses into a tokenizer, which is saved with the adapter.

    It is the base's own template where that leaves nothing open. After this,
    `tokenizer.apply_chat_template(messages, add_generation_prompt=True)` sends what `prompt_ids` gives.

    Raises:
        InputError: As `prompt_ids`.
    """
    tokenizer.chat_template = read_format(tokenizer).template


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Token ids that inference sends, `[tokens]`: the conversation and the generation prompt in the fixed template.

    Raises:
        InputError: The tokenizer has no chat template, or one that cannot be trained with, refuses the conversation,
            leaves out one of its turns, or writes its begin-of-text token twice; or a text holds a control token.
    """
    form = read_format(tokenizer)
    _refuse_control_tokens(form, messages)
    ids: list[int] = render(tokenizer, form.template, messages, None)
    dropped = dropped_role(tokenizer, form.template, tuple(message["role"] for message in messages))
    if dropped is not None:
        raise InputError(
            f"The chat template leaves out the {dropped} turn.", f"Remove the {dropped} turns from the data."
        )
    beginning = tokenizer.bos_token_id
    # Llama 2's template writes it once a round.
    rounds = sum(message["role"] == "user" for message in messages)
    repeated = begins_every_text(tokenizer) and ids.count(beginning) > max(rounds, 1)
    if beginning is not None and (repeated or ids[:2] == [beginning] * 2):
        raise InputError("The chat template writes its begin-of-text token twice.", OTHER_TEMPLATE)
    return ids


def encode(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Example:
    """A conversation whose last turn is the answer, as token ids with the answer marked.

    The prompt part equals `prompt_ids(tokenizer, messages[:-1])` token for token. What a template writes after the end
    of the answer's turn (a line break) is left out: no model needs to learn it, and generation stops before it.

    Raises:
        InputError: The last turn is no assistant turn, the prompt's text or tokens change once the answer follows, or
            as `prompt_ids`.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise InputError("The last message is not an assistant turn.", "Each row ends with the answer.")
    prompt = prompt_ids(tokenizer, messages[:-1])
    form = read_format(tokenizer)
    _refuse_control_tokens(form, messages[-1:])
    whole: list[int] = render(tokenizer, form.template, messages[:-1], messages[-1]["content"])
    start = answer_start(tokenizer, prompt[: len(prompt) - form.unwritten], whole)
    if start is None:
        before = render(tokenizer, form.template, messages[:-1], None, tokenize=False)
        after = render(tokenizer, form.template, messages[:-1], messages[-1]["content"], tokenize=False)
        raise InputError(TOKENS_JOIN if after.startswith(before) else PROMPT_CHANGES, OTHER_TEMPLATE)
    answer = whole[start:]
    if form.end_id not in answer:
        raise no_end_error("another end after this answer")
    return Example(prompt + answer[: answer.index(form.end_id) + 1], len(prompt))


def begins_every_text(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer begins any text with its begin-of-text token."""
    return tokenizer.bos_token_id is not None and tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id]


def check_beginning(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> None:
    """Refuse to train on texts without the begin-of-text token that the base begins every text with.

    An adapter of another tool that was trained so is asked so: `apply_chat_template` sends none.

    Raises:
        InputError: The token is missing.
    """
    if begins_every_text(tokenizer) and ids[:1] != [tokenizer.bos_token_id]:
        raise InputError(
            "The chat template writes no begin-of-text token, which its tokenizer puts before any text.",
            OTHER_TEMPLATE,
        )


def end_of_turn_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None) -> list[int]:
    """Ids at which generation stops: the token that ends an answer in this template, the tokenizer's end of text, and
    those that the model's generation configuration lists.
    """
    listed = getattr(generation_config, "eos_token_id", None)
    configured = listed if isinstance(listed, list) else [listed]
    ends = [read_format(tokenizer).end_id, tokenizer.eos_token_id, *configured]
    return [number for number in dict.fromkeys(ends) if number is not None]


def _refuse_control_tokens(form: Format, messages: Messages) -> None:
    for message in messages:
        for token in form.controls:
            if token in message["content"]:
                raise InputError(
                    f"A {message['role']} text holds the control token {token}.", "Remove it from the data."
                )
