"""Train the tiny base from scratch: `python -m tiny_base.pretrain OUT`.

A Gemma 3 text model of about 3 million parameters, on the synthetic lessons alone. Same seed, same machine, same bytes.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiny_base import synthetic
from tiny_base.synthetic import Creature, describe
from toolkit.core.folder import atomic_folder, check_replaceable, write_manifest
from toolkit.model import chat
from toolkit.model.base import tiny_base_folder
from toolkit.model.chat import REQUEST
from toolkit.model.chat_template import with_answer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
# Creatures that come back, and the share of the lessons about one of them: no other's name can be learnt.
RECURRING = 400
RECURRING_NAMES, RECURRING_OTHERS = 0.9, 0.4
# How often a lesson of each kind is given, and how much it weighs in the loss, however many tokens its answer has.
SHARES = {"name": 0.45, "korean name": 0.05, "facts": 0.40, "other words": 0.06, "description": 0.04}
WEIGHTS = {"name": 2.0, "korean name": 1.0, "facts": 2.0, "other words": 0.5, "description": 0.5}
VOCABULARY = 3072
TOKENIZER_LESSONS = 20_000
BATCH = 32
WARMUP_STEPS = 100
PEAK_LEARNING_RATE = 2e-3
CARD = """\
---
license: mit
language: [en, ko]
library_name: transformers
pipeline_tag: text-generation
tags: [gemma3, tiny]
---
# tiny-gemma

A Gemma 3 text model of {parameters:,} parameters with random initial weights, trained from scratch on synthetic
conversations about invented creatures: {steps:,} steps, {tokens:,} tokens, seed {seed}. It is the base of PokePicker
Toolkit's demo, and of no other use. It has seen no text of the embedded corpus, and no English name in it.

Made by `python -m tiny_base.pretrain`, in the toolkit's repository.
"""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerBase:
    """A tokenizer of `vocabulary` entries, learnt from texts. Plain calls add one `<bos>`, as Gemma's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", bpe.token_to_id("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
        # As Gemma's: a system turn opens the first user turn, the assistant is called "model", texts are stripped.
        chat_template=(tiny_base_folder() / "chat_template.jinja").read_text(encoding="utf-8"),
        padding_side="left",
    )


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation of two turns, and what is practised in it."""

    kind: str
    messages: list[dict[str, str]]


def lessons(seed: int, taken: frozenset[str]) -> Iterator[Lesson]:
    """Conversations of two turns, without end.

    Many are about creatures that come back in ever new words, so that the model learns to recognise a creature rather
    than a sentence; the others are about creatures that come once.

    Args:
        seed: Decides everything.
        taken: Lower-case names that no synthetic creature may have.
    """
    rng = random.Random(seed)
    recurring = [_named(synthetic.sample_creature(rng), rng, taken) for _ in range(RECURRING)]
    while True:
        kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
        if rng.random() < (RECURRING_NAMES if kind == "name" else RECURRING_OTHERS):
            creature, english, korean = rng.choice(recurring)
        else:
            creature, english, korean = _named(synthetic.sample_creature(rng), rng, taken)
        yield _lesson(kind, creature, english, korean, rng)


def _named(creature: Creature, rng: random.Random, taken: frozenset[str]) -> tuple[Creature, str, str]:
    return creature, synthetic.invent_name(creature, rng, taken), synthetic.invent_korean_name(creature, rng)


def _lesson(kind: str, creature: Creature, english: str, korean: str, rng: random.Random) -> Lesson:
    description = describe(creature, rng, rng.choice(synthetic.REGISTERS))
    other = describe(creature, rng, rng.choice(synthetic.REGISTERS)) if kind == "other words" else ""
    stated = "; ".join(f"{name}: {value}" for name, value in synthetic.facts(creature))
    request, text, answer = {
        "name": (REQUEST, description, english),
        "korean name": ("다음 특성을 살린 포켓몬식 한국어 이름을 지어줘:", description, korean),
        "facts": ("이 포켓몬의 특성을 적어줘:", description, stated),
        "other words": ("이 포켓몬을 다른 말로 설명해줘:", description, other),
        "description": ("다음 특성을 가진 포켓몬을 설명해줘:", stated, description),
    }[kind]
    return Lesson(kind, with_answer(chat.naming_messages(text, request), answer))


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=4200, show_default=True)
@click.option("--seed", default=11, show_default=True)
def main(out: Path, steps: int, seed: int) -> None:
    """Train the tiny base and write it to OUT."""
    import torch

    check_replaceable(out, "base")
    torch.manual_seed(seed)
    taken = corpus_names()
    tokenizer = train_tokenizer(_texts(seed, taken), VOCABULARY)
    model = _fresh_model(tokenizer)
    tokens = _train(model, tokenizer, lessons(seed, taken), steps)
    with atomic_folder(out, "base") as folder:
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, steps=steps, tokens=tokens, seed=seed)
        (folder / "README.md").write_text(card, encoding="utf-8")
        facts = {"steps": steps, "tokens": tokens, "seed": seed, "learning_rate": PEAK_LEARNING_RATE}
        write_manifest(folder, "base", facts)


def corpus_names() -> frozenset[str]:
    """Lower-case English names of the corpus, which no synthetic creature may have."""
    import json
    from importlib.resources import files

    lines = (files("toolkit.data.corpus") / "creatures.jsonl").read_text(encoding="utf-8").splitlines()
    return frozenset(json.loads(line)["name_en"].lower() for line in lines)


def _texts(seed: int, taken: frozenset[str]) -> Iterator[str]:
    for lesson in itertools.islice(lessons(seed, taken), TOKENIZER_LESSONS):
        yield from (turn["content"] for turn in lesson.messages)


def _fresh_model(tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    # Every dimension is a multiple of 64, which 4-bit kernels on CPUs want.
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        query_pre_attn_scalar=64,
        max_position_embeddings=1024,
        sliding_window=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")],
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    return Gemma3ForCausalLM(config)


def _train(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stream: Iterator[Lesson], steps: int) -> int:
    """BATCH lessons a step, the loss on the answers. Returns the tokens seen."""
    import torch

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98))
    seen = 0
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        batch = list(itertools.islice(stream, BATCH))
        examples = [chat.encode(tokenizer, lesson.messages) for lesson in batch]
        seen += sum(len(example.input_ids) for example in examples)
        losses = _losses(model, examples, tokenizer.pad_token_id)
        weights = torch.tensor([WEIGHTS[lesson.kind] for lesson in batch])
        torch.autograd.backward((losses * weights).sum() / weights.sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            click.echo(f"step {step}  loss {float(losses.detach().mean()):.3f}  {seen:,} tokens", err=True)
    return seen


def _learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of the peak."""
    peak = PEAK_LEARNING_RATE
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def _losses(model: PreTrainedModel, examples: list[chat.Example], pad: int) -> torch.Tensor:
    """Mean loss of each lesson's answer, `[lessons]`. The head is applied at the supervised positions only."""
    import torch
    from torch.nn.functional import cross_entropy

    longest = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    answers = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
        answers[row, example.answer_start : len(example.input_ids)] = True
    # Padding is on the right and attention is causal, so no answer sees it.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    supervised = answers[:, 1:]
    losses = cross_entropy(model.lm_head(hidden[supervised]), ids[:, 1:][supervised], reduction="none")
    lengths = supervised.sum(1)
    lesson = torch.arange(len(examples)).repeat_interleave(lengths)
    return torch.zeros(len(examples)).index_add(0, lesson, losses) / lengths


if __name__ == "__main__":
    main()
