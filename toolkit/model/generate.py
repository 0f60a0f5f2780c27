"""Names for a conversation: the likeliest one, or names sampled from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from toolkit.core.recipe import DecodingSettings
from toolkit.model.chat import end_of_turn_ids, prompt_ids
from toolkit.model.chat_template import Messages
from toolkit.model.loading import nan_error
from toolkit.model.memory import halving

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Generated:
    """A name, and whether the model ended its turn by itself, within `max_new_tokens`."""

    name: str
    stopped: bool


def too_long(model: PreTrainedModel, prompt: Sequence[int], settings: DecodingSettings) -> str | None:
    """Why a prompt and a name exceed the model's context, as a clause; None where they fit, or no limit is stated."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    takes = len(prompt) + settings.max_new_tokens
    if context is None or takes <= context:
        return None
    return f"with the request and a name it takes {takes:,} tokens, and the model reads {context:,}"


def greedy_name(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, messages: Messages, settings: DecodingSettings
) -> str:
    """The most likely name, token by token: the same on every run.

    Raises:
        InputError: The model's probabilities are NaN.
    """
    return _generate(model, tokenizer, messages, settings, do_sample=False)[0].name


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    settings: DecodingSettings,
    count: int,
    seed: int,
) -> list[Generated]:
    """`count` names drawn with the given temperature, top-k and top-p; the same seed draws the same names.

    All are drawn at once. Where the memory runs out, half as many are, and the names may be others.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold one name (`memory_errors` translates).
    """
    import torch

    how = {"do_sample": True, "temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}

    def draw(names: int) -> list[Generated]:
        return _generate(model, tokenizer, messages, settings, num_return_sequences=names, **how)

    torch.manual_seed(seed)
    drawn: list[Generated] = []
    at_once = count
    while len(drawn) < count:
        names, at_once = halving(min(at_once, count - len(drawn)), draw)
        drawn += names
    return drawn


def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Messages,
    settings: DecodingSettings,
    **how: object,
) -> list[Generated]:
    import torch

    prompt = torch.tensor([prompt_ids(tokenizer, messages)], device=model.device)
    stop = end_of_turn_ids(tokenizer, model.generation_config)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]
    with torch.inference_mode():
        sequences = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=stop,
            pad_token_id=pad,
            logits_processor=[_refuse_nan],
            **how,
        )
    # The end is cut off first: some end a turn with a token that is not special, and decoding would show it.
    ends = set(stop)
    generated = []
    for row in sequences:
        tokens = row[prompt.shape[1] :].tolist()
        answer = list(takewhile(lambda token: token not in ends, tokens))
        name = tokenizer.decode(answer, skip_special_tokens=True).strip()
        generated.append(Generated(name, stopped=len(answer) < len(tokens)))
    return generated


def _refuse_nan(_input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Stop before a draw from NaN, which is a bare error on a CPU and leaves a GPU unusable."""
    # The largest logit is NaN beside any NaN, and infinite where no token has a probability.
    if not bool(logits.amax(-1).isfinite().all()):
        raise nan_error()
    return logits
