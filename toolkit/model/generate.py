"""Names for a description. Knows nothing of datasets.

All names of a description are drawn at once; where the memory runs out, half as many, and the names stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from toolkit.core.recipe import DecodingSettings
from toolkit.model.chat import end_of_turn_ids, prompt_ids
from toolkit.model.chat_template import Messages
from toolkit.model.finite import Watch
from toolkit.model.memory import free_cache, lacks_memory


@dataclass(frozen=True, slots=True)
class Generated:
    """A name, and whether the model ended its turn by itself, within the tokens that it was given."""

    name: str
    stopped: bool


@dataclass(slots=True)
class AtOnce:
    """How many names of one model the memory holds at once, as far as it is known.

    Attributes:
        most: None until the memory ran out: all that are asked for. Halved each time it does.
    """

    most: int | None = None


def too_long(model: Any, prompt: Sequence[int], settings: DecodingSettings) -> str | None:
    """How many tokens a prompt and a name take, and how many the model reads; None where they fit, or nobody says."""
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    takes = len(prompt) + settings.max_new_tokens
    if room is None or takes <= room:
        return None
    return f"with the request and a name it takes {takes:,} tokens, and the model reads {room:,}"


def greedy_name(model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings) -> str:
    """The most likely name, token by token: the same on every run.

    Raises:
        InputError: The model's probabilities are no numbers.
    """
    return _generate(model, tokenizer, messages, settings, do_sample=False)[0].name


def sample_names(
    model: Any,
    tokenizer: Any,
    messages: Messages,
    settings: DecodingSettings,
    count: int,
    seed: int,
    at_once: AtOnce | None = None,
) -> list[str]:
    """The names that `sample` draws."""
    return [drawn.name for drawn in sample(model, tokenizer, messages, settings, count, seed, at_once)]


def sample(
    model: Any,
    tokenizer: Any,
    messages: Messages,
    settings: DecodingSettings,
    count: int,
    seed: int,
    at_once: AtOnce | None = None,
) -> list[Generated]:
    """`count` names drawn with the given temperature, top-k and top-p; the same seed draws the same names.

    Args:
        model: In eval mode.
        tokenizer: Its tokenizer.
        messages: What it is sent.
        settings: How names are drawn.
        count: How many names.
        seed: Decides them.
        at_once: Keeps what was learnt about the memory for the next description.

    Raises:
        InputError: The model's probabilities are no numbers.
        RuntimeError: The memory does not hold one name; or a MemoryError (`memory_errors` has words for it).
    """
    at_once = at_once or AtOnce()
    drawn: list[Generated] = []
    while len(drawn) < count:
        size = min(count - len(drawn), at_once.most or count)
        try:
            drawn += _part(model, tokenizer, messages, settings, count, seed, slice(len(drawn), len(drawn) + size))
            continue
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not lacks_memory(error):
                raise
        # Behind the `except`, so that nothing holds on to the names that did not fit.
        free_cache()
        at_once.most = size // 2
    return drawn


def _part(
    model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings, count: int, seed: int, part: slice
) -> list[Generated]:
    """Those of the `count` names that a seed draws."""
    import torch

    size = part.stop - part.start
    torch.manual_seed(seed)
    with _drawn_among(count, part) if size < count else nullcontext():
        return _generate(
            model,
            tokenizer,
            messages,
            settings,
            do_sample=True,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            num_return_sequences=size,
        )


def _drawn_among(count: int, part: slice) -> AbstractContextManager[object]:
    """Inside, each row of a part gets the random numbers that it has among all `count` rows.

    Which numbers a row gets depends on how many rows torch draws for, and generation draws for all rows of each step:
    so here it does for rows that are not there, too.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class DrawnAmong(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if func is not torch.multinomial:
                return func(*args, **kwargs)
            probabilities, *rest = args
            rows = probabilities.new_ones(count, probabilities.shape[1])
            rows[part] = probabilities
            return func(rows, *rest, **kwargs)[part]

    return DrawnAmong()


def _generate(
    model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings, **how: Any
) -> list[Generated]:
    import torch

    prompt = torch.tensor([prompt_ids(tokenizer, messages)], device=model.device)
    stop = end_of_turn_ids(tokenizer, model.generation_config)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    watch = Watch(how.get("temperature", 1.0))
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=stop,
            pad_token_id=pad,
            logits_processor=[watch],
            **how,
        )
    watch.check()
    # The end is cut off first: some end a turn with a token that is not special, and decoding would show it.
    ends = set(stop)
    generated = []
    for row in sequences:
        tokens = row[prompt.shape[1] :].tolist()
        answer = list(takewhile(lambda token: token not in ends, tokens))
        name = tokenizer.decode(answer, skip_special_tokens=True).strip()
        generated.append(Generated(name, stopped=len(answer) < len(tokens)))
    return generated
