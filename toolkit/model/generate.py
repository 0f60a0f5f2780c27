"""Names after prompts: the likeliest one, or names sampled from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from toolkit.core.recipe import DecodingSettings
from toolkit.model.chat import end_of_turn_ids, prompt_ids
from toolkit.model.chat_template import Messages
from toolkit.model.loading import nan_error
from toolkit.model.memory import halving
from toolkit.model.prompts import Prompts, in_columns

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    Steer = Callable[[list[list[int]], torch.Tensor], torch.Tensor]
    """What each sequence said after its prompt, and the next logits `[sequences, vocabulary]`, in; other logits out."""


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
    return greedy_names(in_columns(model, [prompt_ids(tokenizer, messages)]), tokenizer, settings)[0]


def greedy_names(prompts: Prompts, tokenizer: PreTrainedTokenizerBase, settings: DecodingSettings) -> list[str]:
    """The most likely name after each prompt, token by token.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold a name for each (`memory_errors` translates).
    """
    parts = _together(prompts, settings)
    return [one.name for part in parts for (one,) in _generate(part, tokenizer, settings, None, None, 1)]


def sample(
    prompts: Prompts,
    tokenizer: PreTrainedTokenizerBase,
    settings: DecodingSettings,
    count: int,
    seeds: Sequence[int],
    steer: Steer | None = None,
) -> list[list[Generated]]:
    """`count` names after each prompt, drawn with the given temperature, top-k and top-p from what `steer` leaves.

    Each prompt has a seed of its own: the same one draws the same names, whatever prompts are beside it. All names are
    drawn at once. Where the memory runs out, half as many are, and the names may be others.

    Raises:
        InputError: The model's probabilities are NaN.
        RuntimeError, MemoryError: The memory does not hold one name for each (`memory_errors` translates).
    """
    import torch

    drawn: list[list[Generated]] = []
    for part in _together(prompts, settings):
        own = [torch.Generator(part.tokens.device).manual_seed(seed) for seed in seeds[len(drawn) :][: len(part)]]
        names: list[list[Generated]] = [[] for _ in own]
        at_once = count
        while len(names[0]) < count:
            wanted = min(at_once, count - len(names[0]))
            more, at_once = halving(wanted, partial(_generate, part, tokenizer, settings, own, steer))
            names = [[*before, *new] for before, new in zip(names, more, strict=True)]
        drawn += names
    return drawn


def _together(prompts: Prompts, settings: DecodingSettings) -> list[Prompts]:
    """The prompts in parts that generate together."""
    if prompts.together(settings.max_new_tokens):
        return [prompts]
    return [in_columns(prompts.model, [each]) for each in prompts.each()]


def _generate(
    prompts: Prompts,
    tokenizer: PreTrainedTokenizerBase,
    settings: DecodingSettings,
    generators: Sequence[torch.Generator] | None,
    steer: Steer | None,
    count: int,
) -> list[list[Generated]]:
    """`count` names after each prompt: drawn by its generator, or without one the likeliest."""
    import torch

    tokens, counts = (each.repeat_interleave(count, 0) for each in (prompts.tokens, prompts.counts))
    stop = end_of_turn_ids(tokenizer, prompts.model.generation_config)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stop[0]

    def steered(input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return logits if steer is None else steer(input_ids[:, tokens.shape[1] :].tolist(), logits)

    with torch.inference_mode():
        # The last token is read again, because `generate` begins with a pass.
        read = {} if prompts.cache is None else {"past_key_values": prompts.continuing(count, without=1)}
        sequences = prompts.model.generate(
            input_ids=tokens,
            attention_mask=counts.long(),
            max_new_tokens=settings.max_new_tokens,
            eos_token_id=stop,
            pad_token_id=pad,
            do_sample=False,
            logits_processor=[_refuse_nan, steered, *(_draws(settings, generators) if generators else [])],
            **read,
        )
    # The end is cut off first: some end a turn with a token that is not special, and decoding would show it.
    ends = set(stop)
    generated = []
    for row in sequences:
        said = row[tokens.shape[1] :].tolist()
        answer = list(takewhile(lambda token: token not in ends, said))
        name = tokenizer.decode(answer, skip_special_tokens=True).strip()
        generated.append(Generated(name, stopped=len(answer) < len(said)))
    return [generated[first : first + count] for first in range(0, len(generated), count)]


def _draws(settings: DecodingSettings, generators: Sequence[torch.Generator]) -> list[Processor]:
    """What leaves one token of each sequence: drawn by its prompt's generator, as `generate` draws by the only one."""
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    def draw(_input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        parts = logits.softmax(-1).chunk(len(generators))
        tokens = [
            torch.multinomial(part, 1, generator=generator) for part, generator in zip(parts, generators, strict=True)
        ]
        return torch.full_like(logits, -torch.inf).scatter(1, torch.cat(tokens), 0.0)

    nucleus = [TopPLogitsWarper(settings.top_p)] if settings.top_p < 1 else []
    return [TemperatureLogitsWarper(settings.temperature), TopKLogitsWarper(settings.top_k), *nucleus, draw]


def _refuse_nan(_input_ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Stop before a draw from NaN, which is a bare error on a CPU and leaves a GPU unusable."""
    # The largest logit is NaN beside any NaN, and infinite where no token has a probability.
    if not bool(logits.amax(-1).isfinite().all()):
        raise nan_error()
    return logits
