"""Names for a description. Knows nothing of datasets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from toolkit.chat import end_of_turn_ids, prompt_ids
from toolkit.chat_template import Messages
from toolkit.recipe import DecodingSettings


@dataclass(frozen=True, slots=True)
class Generated:
    """A name, and whether the model ended its turn by itself, within the tokens that it was given."""

    name: str
    stopped: bool


def greedy_name(model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings) -> str:
    """The most likely name, token by token: the same on every run."""
    return _generate(model, tokenizer, messages, settings, do_sample=False)[0].name


def sample_names(
    model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings, count: int, seed: int
) -> list[str]:
    """The names that `sample` draws."""
    return [drawn.name for drawn in sample(model, tokenizer, messages, settings, count, seed)]


def sample(
    model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings, count: int, seed: int
) -> list[Generated]:
    """`count` names drawn with the given temperature, top-k and top-p; the same seed draws the same names."""
    import torch

    torch.manual_seed(seed)
    return _generate(
        model,
        tokenizer,
        messages,
        settings,
        do_sample=True,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        num_return_sequences=count,
    )


def _generate(
    model: Any, tokenizer: Any, messages: Messages, settings: DecodingSettings, **how: Any
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
