"""A chat template: what it sends to ask for an answer, what it writes around one, and what ends it.

Training text has to be what inference sends. Whatever a template leaves open (whether to think first, which day it is)
is therefore fixed once, and the fixed template travels with the adapter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.core.errors import InputError, library_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]
Text = TypeVar("Text", str, list[int])

QUESTION = ({"role": "user", "content": "a"},)
# They share no beginning and no end, so what renderings with them share is what the template writes around an answer.
ANSWERS = ("Vulpix", "식스테일")
# Switches of templates that think before the answer, which a name does not need.
SWITCHES = ("enable_thinking", "thinking")
# Any day will do as long as it is always the same; Llama's templates write this one when they get none.
DAY = date(2024, 7, 26)
CLOCK = re.compile(r"""\bstrftime_now\(\s*(["'])([^"']*)\1\s*\)""")
OTHER_TEMPLATE = "Choose a base, or an adapter, with another chat template."
PROMPT_CHANGES = "The chat template renders the prompt differently once an answer follows."
TOKENS_JOIN = "The tokenizer joins the end of the prompt and the beginning of the answer into one token."


@dataclass(frozen=True, slots=True)
class Format:
    """What a template writes around an answer.

    Attributes:
        template: The template with everything fixed.
        unwritten: Tokens that close the generation prompt and that the template leaves out once the answer is there
            (an empty thought); 0 for most.
        end_id: The token that ends an answer's turn.
        controls: Texts that mean something to the template or the tokenizer wherever they stand.
    """

    template: str
    unwritten: int
    end_id: int
    controls: frozenset[str]


def default_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template for conversations: of several with names, the one called `default`."""
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def read_format(tokenizer: PreTrainedTokenizerBase) -> Format:
    """What the tokenizer's chat template writes around an answer.

    Raises:
        InputError: There is no template, or one that cannot be trained with; the reason is in it.
    """
    template = default_template(tokenizer)
    if not template:
        raise InputError(
            "The tokenizer has no chat template.",
            "Choose an instruction-tuned base, or put the template of the training into the adapter's folder.",
        )
    return _read(tokenizer, template, tuple(tokenizer.all_special_ids))


# Special tokens change what a template writes, so they are part of the key.
@lru_cache(maxsize=16)
def _read(tokenizer: PreTrainedTokenizerBase, template: str, _special_ids: tuple[int, ...]) -> Format:
    template = _fixed(tokenizer, _without_clock(template))
    prompt = render(tokenizer, template, QUESTION, None)
    finished = [render(tokenizer, template, QUESTION, answer) for answer in ANSWERS]
    _, unwritten = _border(tokenizer, template) or ("", "")
    kept = len(_shared(*finished)) if unwritten else len(prompt)
    if any(answer_start(tokenizer, prompt[:kept], ids) is None for ids in finished):
        raise InputError(TOKENS_JOIN, OTHER_TEMPLATE)
    ending = _shared(*(ids[::-1] for ids in finished))[::-1]
    end_id = _end_id(tokenizer, ending)
    added = tokenizer.added_tokens_decoder
    controls = {str(token) for token in added.values() if token.special} | {str(added.get(end_id, ""))} - {""}
    return Format(template, len(prompt) - kept, end_id, frozenset(controls))


def with_answer(messages: Messages, answer: str) -> list[dict[str, str]]:
    """The conversation with the model's answer appended."""
    return [*messages, {"role": "assistant", "content": answer}]


def render(
    tokenizer: PreTrainedTokenizerBase, template: str, messages: Messages, answer: str | None, *, tokenize: bool = True
) -> Any:
    """Token ids (or the text) of the prompt for an answer, or of the conversation with the answer given.

    Raises:
        InputError: The template, which is a program of the base or the adapter, fails on the conversation.
    """
    turns = messages if answer is None else with_answer(messages, answer)
    return _apply(tokenizer, template, turns, asks=answer is None, tokenize=tokenize)


def _apply(tokenizer: PreTrainedTokenizerBase, template: str, turns: Messages, *, asks: bool, tokenize: bool) -> Any:
    failed = "The chat template does not render this conversation"
    with library_errors(failed, "Change the conversation, or the chat template."):
        return tokenizer.apply_chat_template(
            list(turns), chat_template=template, add_generation_prompt=asks, tokenize=tokenize, return_dict=False
        )


def answer_start(tokenizer: PreTrainedTokenizerBase, prompt: list[int], whole: list[int]) -> int | None:
    """How many tokens of a conversation come before its answer; None when its text or its tokens run across the border.

    Mostly as many as the prompt has. But tokenizers that split as GPT-2's does read two line breaks as one token at
    the end of a text and as two before a word.
    """
    if whole[: len(prompt)] == prompt:
        return len(prompt)
    text = "".join(tokenizer.convert_ids_to_tokens(prompt))
    pieces = tokenizer.convert_ids_to_tokens(whole)
    lengths = accumulate(map(len, pieces), initial=0)
    start = next((start for start, length in enumerate(lengths) if length == len(text)), None)
    return start if start is not None and "".join(pieces[:start]) == text else None


def no_end_error(written: str) -> InputError:
    """The error for answers after which a trained model would never stop."""
    return InputError(
        f"The chat template does not end the answer's turn with a token of its own, at which generation could "
        f"stop, but with {written}.",
        OTHER_TEMPLATE,
    )


@lru_cache(maxsize=64)
def dropped_role(tokenizer: PreTrainedTokenizerBase, template: str, roles: tuple[str, ...]) -> str | None:
    """The role of the first turn whose text the template drops in a prompt of such turns; None if it drops none."""
    turns = [{"role": role, "content": "a"} for role in roles]
    whole = render(tokenizer, template, turns, None)
    for index, role in enumerate(roles):
        others = [*turns[:index], {"role": role, "content": "b"}, *turns[index + 1 :]]
        if render(tokenizer, template, others, None) == whole:
            return role
    return None


def _without_clock(template: str) -> str:
    """The template with a fixed date in place of today's, so that prompts stay the same from day to day."""
    fixed = CLOCK.sub(lambda call: json.dumps(DAY.strftime(call[2])), template)
    if re.search(r"\bstrftime_now\s*\(", fixed):
        raise InputError(
            "The chat template writes the date in a way that cannot be fixed, so that prompts would change "
            "from day to day.",
            OTHER_TEMPLATE,
        )
    return fixed


def _fixed(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    """The template with nothing but blanks between its generation prompt and an answer.

    What it would write there once an answer follows, such as an empty thought, becomes part of the generation prompt:
    by the template's own switch where it has one, else by writing it.
    """
    switched = [f"{{% set {name} = false %}}{template}" for name in SWITCHES if name in template]
    for choice in (template, *switched):
        border = _border(tokenizer, choice)
        if border is not None and not border[0].strip():
            return choice
    border = _border(tokenizer, template)
    if border is None:
        raise InputError(PROMPT_CHANGES, OTHER_TEMPLATE)
    lead, _ = border
    asking, silent = (_apply(tokenizer, template, QUESTION, asks=asks, tokenize=False) for asks in (True, False))
    if asking == silent:
        raise InputError(
            f"The chat template has no generation prompt: it writes {lead!r} when an answer follows.",
            OTHER_TEMPLATE,
        )
    # Jinja drops one line break at the end of a template, which is no longer its end.
    whole, leads = template.removesuffix("\n"), dict.fromkeys((lead, lead.rstrip()))
    literals = [json.dumps(each, ensure_ascii=False) for each in leads]
    written = [f"{whole}{{{{ {literal} if add_generation_prompt else '' }}}}" for literal in literals]
    return next((choice for choice in written if _keeps_tokens(tokenizer, choice)), written[0])


def _keeps_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    prompt = render(tokenizer, template, QUESTION, None)
    finished = (render(tokenizer, template, QUESTION, answer) for answer in ANSWERS)
    return all(answer_start(tokenizer, prompt, ids) is not None for ids in finished)


def _border(tokenizer: PreTrainedTokenizerBase, template: str) -> tuple[str, str] | None:
    """Text between prompt and answer: what is not in the generation prompt, and what is only there.

    None when the prompt is written in another way once an answer follows.
    """
    prompt = render(tokenizer, template, QUESTION, None, tokenize=False)
    finished = [render(tokenizer, template, QUESTION, answer, tokenize=False) for answer in ANSWERS]
    if finished[0] == finished[1]:
        raise InputError("The chat template leaves out the answer.", OTHER_TEMPLATE)
    header = _shared(*finished)
    if header[: len(prompt)] == prompt:
        return header[len(prompt) :], ""
    if prompt[: len(header)] == header and _is_closed(prompt[len(header) :]):
        return "", prompt[len(header) :]
    return None


def _shared(first: Text, second: Text) -> Text:
    """The beginning that two texts, or lists of tokens, have in common."""
    differing = (index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
    return first[: next(differing, min(len(first), len(second)))]


def _is_closed(thought: str) -> bool:
    """Whether a text opens something and closes it again (`<think></think>`): after `<think>`, answers are thoughts."""
    return len(re.findall(r"<[^<>]+>|\[[^\[\]]+\]", thought)) == 2


def _end_id(tokenizer: PreTrainedTokenizerBase, ending: list[int]) -> int:
    """The first token of its own (no plain text, no blanks) among those that the template writes after an answer."""
    added = tokenizer.added_tokens_decoder
    own = {number for number in added if str(added[number]).strip()} | set(tokenizer.all_special_ids)
    own -= {getattr(tokenizer, "unk_token_id", None)}
    place = next((place for place, number in enumerate(ending) if number in own), len(ending))
    # Plain text between the answer and its end would be part of every name that is generated.
    between = tokenizer.decode(ending[:place]) if place else ""
    if place == len(ending) or between.strip():
        raise no_end_error(f"{between!r}" if between else "nothing")
    return ending[place]
