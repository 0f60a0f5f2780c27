"""The chat contract holds for the shapes of template that families have; others are refused with the reason."""

import copy
import dataclasses
import datetime

import pytest

from support.templates import CHATML, FAMILIES, QWEN_3, family_tokenizer
from toolkit.core.errors import InputError
from toolkit.model import chat, rank
from toolkit.model.chat_template import with_answer

MESSAGES = with_answer(chat.naming_messages("A small red fox with six tails."), "Vulpix")
ROUNDS = [*with_answer(chat.naming_messages("A mouse."), "Pikachu"), {"role": "user", "content": "A red fox."}]

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def settled(family):
    tokenizer = family_tokenizer(family)
    chat.set_template(tokenizer)
    return tokenizer


def sent(tokenizer, messages, **settings):
    """What the card's snippet, or anybody else, sends."""
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **settings)


@every_family
@pytest.mark.parametrize("messages", [MESSAGES[:-1], ROUNDS], ids=["one round", "two rounds"])
def test_training_begins_with_what_anybody_sends_who_loads_the_saved_tokenizer(family, messages, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = settled(family)
    tokenizer.save_pretrained(tmp_path)
    prompt = sent(AutoTokenizer.from_pretrained(tmp_path), messages)
    for trained_with in (family_tokenizer(family), tokenizer):
        example = chat.encode(trained_with, with_answer(messages, "Vulpix"))
        assert example.input_ids[: example.answer_start] == prompt == chat.prompt_ids(trained_with, messages)


@every_family
def test_the_answer_and_its_end_of_turn_are_supervised_and_nothing_else(family):
    tokenizer = family_tokenizer(family)
    for messages in (MESSAGES, with_answer(ROUNDS, "Vulpix")):
        assert tokenizer.decode(chat.encode(tokenizer, messages).answer_ids).lstrip(" ") == family.answer


@every_family
def test_text_and_answer_are_the_templates_own_rendering(family):
    tokenizer = settled(family)
    example = chat.encode(tokenizer, MESSAGES)
    whole = tokenizer.apply_chat_template(MESSAGES, return_dict=False)
    text = tokenizer.decode(example.input_ids).replace(family.closing, "")
    assert tokenizer.decode(whole).startswith(text)
    end = len(whole) - whole[::-1].index(example.input_ids[-1])
    assert whole[end - len(example.answer_ids) : end] == example.answer_ids


def test_line_breaks_that_end_a_prompt_are_trained_as_they_are_sent():
    # As GPT-2's tokenizer, this one reads them as one token at the end of a text and as two before a word.
    tokenizer = family_tokenizer(FAMILIES["exaone"])
    example = chat.encode(tokenizer, MESSAGES)
    whole = tokenizer.apply_chat_template(MESSAGES, return_dict=False)
    assert example.input_ids[: example.answer_start] == sent(tokenizer, MESSAGES[:-1])
    assert whole[: example.answer_start] != example.input_ids[: example.answer_start]
    assert tokenizer.decode(example.answer_ids) == "Vulpix[|endofturn|]"


@every_family
def test_only_templates_that_leave_something_open_are_changed_and_only_once(family):
    tokenizer = settled(family)
    assert (tokenizer.chat_template != family.template) == family.settled
    again = copy.deepcopy(tokenizer)
    chat.set_template(again)
    assert again.chat_template == tokenizer.chat_template


@every_family
def test_candidates_are_ranked_by_the_tokens_that_are_trained(family):
    tokenizer = family_tokenizer(family)
    for messages in (MESSAGES[:-1], ROUNDS, chat.naming_messages("어떤 여우!", "Name it")):
        answers = ["Vulpix", "식스테일", "Mr. Mime"]
        trained = [chat.encode(tokenizer, with_answer(messages, answer)).answer_ids for answer in answers]
        assert rank.encode_answers(tokenizer, answers) == trained


@every_family
def test_a_system_turn_is_sent_or_refused_in_one_line(family):
    tokenizer = family_tokenizer(family)
    messages = chat.naming_messages("A fox.", system="You are a careful namer.")
    if family.has_system:
        assert "You are a careful namer." in tokenizer.decode(chat.prompt_ids(tokenizer, messages))
    else:
        with pytest.raises(InputError, match=r"render this conversation: System role not supported\. Change"):
            chat.prompt_ids(tokenizer, messages)


@every_family
def test_text_begins_with_exactly_one_bos_where_the_tokenizer_wants_one(family):
    tokenizer = family_tokenizer(family)
    if family.adds_bos:
        ids = chat.encode(tokenizer, MESSAGES).input_ids
        assert (ids[0], ids.count(tokenizer.bos_token_id)) == (tokenizer.bos_token_id, 1)


@every_family
def test_the_end_of_turn_stops_generation_and_stays_supervised_when_it_also_pads(family):
    tokenizer = family_tokenizer(family)
    end = chat.encode(tokenizer, MESSAGES).input_ids[-1]
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(end)
    assert chat.encode(tokenizer, MESSAGES).input_ids[-1] == end == chat.end_of_turn_ids(tokenizer)[0]
    assert tokenizer.eos_token_id in chat.end_of_turn_ids(tokenizer)


@pytest.mark.parametrize(
    ("name", "day"), [("llama3", "Today Date: 26 Jul 2024"), ("granite", "Today is July 26, 2024.")]
)
def test_a_prompt_is_the_same_on_another_day(name, day, monkeypatch):
    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 4, tzinfo=tz)

    tokenizer = family_tokenizer(FAMILIES[name])
    open_today, today = sent(tokenizer, MESSAGES[:-1]), chat.prompt_ids(tokenizer, MESSAGES[:-1])
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Later)
    assert sent(tokenizer, MESSAGES[:-1]) != open_today
    assert day in tokenizer.decode(today)
    assert chat.prompt_ids(tokenizer, MESSAGES[:-1]) == today
    assert sent(settled(FAMILIES[name]), MESSAGES[:-1]) == today


@pytest.mark.parametrize("thinking", [True, False])
def test_a_settled_template_does_not_think_whatever_a_client_asks_for(thinking):
    tokenizer = settled(FAMILIES["qwen3"])
    assert sent(tokenizer, MESSAGES[:-1], enable_thinking=thinking) == sent(tokenizer, MESSAGES[:-1])


def test_a_switch_is_tried_before_a_template_that_opens_a_thought_is_refused():
    opening = QWEN_3.replace(
        "is false %}{{ '<think>\\n\\n</think>\\n\\n' }}", "is false %}{% else %}{{ '<think>\\n' }}"
    )
    opening = opening.replace("and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}", "%}")
    tokenizer = family_tokenizer(FAMILIES["qwen3"], opening)
    assert tokenizer.decode(sent(tokenizer, MESSAGES[:-1])).endswith("<think>\n")
    assert tokenizer.decode(chat.prompt_ids(tokenizer, MESSAGES[:-1])).endswith("<|im_start|>assistant\n")


def test_an_answer_that_holds_an_added_token_is_not_cut_there():
    tokenizer = family_tokenizer(FAMILIES["gemma"])
    assert tokenizer("a\n\nb  c", add_special_tokens=False).input_ids[1] in tokenizer.added_tokens_decoder
    answer = chat.encode(tokenizer, with_answer(MESSAGES[:-1], "a\n\nb  c")).answer_ids
    assert tokenizer.decode(answer) == "a\n\nb  c<end_of_turn>"


def test_an_added_token_of_blanks_ends_no_turn():
    family = FAMILIES["gemma"]
    tokenizer = family_tokenizer(family, family.template.replace("'<end_of_turn>\\n'", "'\\n\\n<end_of_turn>'"))
    assert tokenizer.decode(chat.encode(tokenizer, MESSAGES).answer_ids) == "Vulpix\n\n<end_of_turn>"


def test_a_text_that_holds_an_end_of_turn_which_is_no_special_token_is_refused():
    tokenizer = family_tokenizer(FAMILIES["exaone-plain-end"])
    with pytest.raises(InputError, match=r"user text holds the control token \[\|endofturn\|\]"):
        chat.prompt_ids(tokenizer, chat.naming_messages("A fox.[|endofturn|]"))


def test_of_several_templates_the_default_is_used_and_saved():
    tokenizer = family_tokenizer(FAMILIES["qwen2"])
    tokenizer.chat_template = {"default": CHATML, "tool_use": "{{ nothing }}"}
    assert chat.prompt_ids(tokenizer, MESSAGES[:-1]) == sent(tokenizer, MESSAGES[:-1])
    chat.set_template(tokenizer)
    assert tokenizer.chat_template == CHATML


def test_special_tokens_that_change_later_change_the_end_of_turn():
    tokenizer = family_tokenizer(FAMILIES["mistral"])
    assert chat.end_of_turn_ids(tokenizer) == [tokenizer.convert_tokens_to_ids("</s>")]
    tokenizer.eos_token = "[/SYSTEM_PROMPT]"
    assert chat.end_of_turn_ids(tokenizer) == [tokenizer.convert_tokens_to_ids("[/SYSTEM_PROMPT]")]


TURNS = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + 'END' }}{% endfor %}"
ASKS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CHATML_TURNS = TURNS.replace("END", "<|im_end|>\\n")
THOUGHT = CHATML_TURNS + ASKS.replace("assistant\\n", "assistant\\n<think>\\n")
REFUSED = {
    "no generation prompt": (CHATML_TURNS, "no generation prompt: it writes '<|im_start|>assistant\\n' when"),
    "counts the turns": ("{{ messages | length }}" + CHATML, "differently once an answer follows"),
    "asks in other words": (CHATML_TURNS + ASKS.replace("assistant", "model"), "differently once an answer follows"),
    "asks for more": (CHATML_TURNS + ASKS.replace("assistant\\n", "assistant\\nName: "), "differently once an answer"),
    "leaves a thought open": (THOUGHT, "differently once an answer follows"),
    "ends as plain text": (TURNS.replace("END", "</s>") + ASKS, "could stop, but with '</s>'"),
    "ends as a heading": (TURNS.replace("END", "\\n### End\\n") + ASKS, "could stop, but with '\\n### End\\n'"),
    "does not end": (TURNS.replace("END", "") + ASKS, "could stop, but with nothing"),
    "ends as an unknown token": (TURNS.replace("END", "<|im_start|>") + ASKS, "could stop, but with '<|im_start|>'"),
    "text before the end": (TURNS.replace("END", "(end)<|im_end|>") + ASKS, "could stop, but with '(end)'"),
    "no text of the user": (
        CHATML.replace("m.content", "(m.content if m.role == 'assistant' else '')"),
        "out the user",
    ),
    "no text but in parts": (CHATML.replace("m.content", "(m.content[0].text or '')"), "leaves out the answer"),
    "the date, reckoned": ("{{ strftime_now('%d' + '%m') }}" + CHATML, "the date in a way that cannot be fixed"),
    "two bos": ("<|endoftext|><|endoftext|>" + CHATML, "begin-of-text token twice"),
}


@pytest.mark.parametrize(("template", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_used_is_refused_with_the_reason(template, reason):
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": "<|im_start|>"}
    tokenizer = family_tokenizer(dataclasses.replace(FAMILIES["qwen2"], names=names), template)
    with pytest.raises(InputError) as caught:
        chat.encode(tokenizer, MESSAGES)
    assert reason in caught.value.found
    assert "\n" not in str(caught.value)


def test_an_answer_that_the_template_ends_in_another_way_is_refused():
    template = CHATML.replace(
        "m.content + '<|im_end|>\\n'", "m.content + ('<|im_end|>' if m.content[8:] != 'on' else '')"
    )
    tokenizer = family_tokenizer(FAMILIES["qwen2"], template)
    assert chat.encode(tokenizer, MESSAGES)
    with pytest.raises(InputError, match="could stop, but with another end after this answer"):
        chat.encode(tokenizer, with_answer(MESSAGES[:-1], "Charmeleon"))


def test_a_system_turn_that_the_template_leaves_out_is_refused():
    template = CHATML.replace("for m in messages", "for m in messages if m.role != 'system'")
    tokenizer = family_tokenizer(FAMILIES["qwen2"], template)
    assert chat.encode(tokenizer, MESSAGES)
    with pytest.raises(InputError, match="leaves out the system turn"):
        chat.prompt_ids(tokenizer, chat.naming_messages("A fox.", system="You name things."))


def test_a_tokenizer_that_joins_prompt_and_answer_is_refused():
    joined = FAMILIES["llama2"].template.replace("' [/INST]'", "' [/INST] '").replace("' ' + m.c", "m.c")
    with pytest.raises(InputError, match="joins the end of the prompt and the beginning of the answer"):
        chat.prompt_ids(family_tokenizer(FAMILIES["llama2"], joined), MESSAGES[:-1])


def test_a_tokenizer_that_joins_only_some_answers_refuses_those():
    tokenizer = family_tokenizer(FAMILIES["qwen2"])
    assert chat.encode(tokenizer, MESSAGES)
    with pytest.raises(InputError, match="joins the end of the prompt"):
        chat.encode(tokenizer, with_answer(MESSAGES[:-1], "\n\nVulpix"))
