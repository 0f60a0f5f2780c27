"""Train the tiny base from scratch: `python -m toolkit.model.tiny.making.pretrain OUT`.

A Gemma 3 text model of about 3 million parameters, on the synthetic lessons alone. Same seed, same machine, same bytes.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from toolkit.core.folder import atomic_folder, check_replaceable, write_manifest
from toolkit.model import chat
from toolkit.model.tiny.making import lessons as teaching
from toolkit.model.tiny.making import tokenizer as tokenizing

VOCABULARY = 3072
TOKENIZER_LESSONS = 20_000
BATCH = 32
WARMUP_STEPS = 100

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

Made by `python -m toolkit.model.tiny.making.pretrain`.
"""


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=4200, show_default=True)
@click.option("--learning-rate", default=2e-3, show_default=True)
@click.option("--hidden-size", default=256, show_default=True)
@click.option("--layers", default=3, show_default=True)
@click.option("--seed", default=11, show_default=True)
def main(out: Path, steps: int, learning_rate: float, hidden_size: int, layers: int, seed: int) -> None:
    """Train the tiny base and write it to OUT."""
    import torch

    check_replaceable(out, "base")
    torch.manual_seed(seed)
    taken = corpus_names()
    tokenizer = tokenizing.train_tokenizer(_texts(seed, taken), VOCABULARY)
    model = _fresh_model(len(tokenizer), hidden_size, layers, tokenizer)
    click.echo(f"{sum(p.numel() for p in model.parameters()):,} parameters", err=True)
    tokens = _train(model, tokenizer, teaching.lessons(seed, taken), steps, learning_rate)
    with atomic_folder(out, "base") as folder:
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, steps=steps, tokens=tokens, seed=seed)
        (folder / "README.md").write_text(card, encoding="utf-8")
        facts = {"steps": steps, "tokens": tokens, "seed": seed, "learning_rate": learning_rate}
        write_manifest(folder, "base", facts)


def corpus_names() -> frozenset[str]:
    """Lower-case English names of the corpus, which no synthetic creature may have."""
    import json
    from importlib.resources import files

    lines = (files("toolkit.data.corpus") / "creatures.jsonl").read_text(encoding="utf-8").splitlines()
    return frozenset(json.loads(line)["name_en"].lower() for line in lines)


def _texts(seed: int, taken: frozenset[str]) -> Iterator[str]:
    for lesson in itertools.islice(teaching.lessons(seed, taken), TOKENIZER_LESSONS):
        yield from (turn["content"] for turn in lesson.messages)


def _fresh_model(vocabulary: int, hidden_size: int, layers: int, tokenizer: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    # Every dimension is a multiple of 64, which 4-bit kernels on CPUs want.
    config = Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 64,
        num_key_value_heads=hidden_size // 128,
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


def _train(model: Any, tokenizer: Any, stream: Iterator[teaching.Lesson], steps: int, peak: float) -> int:
    """BATCH lessons a step, the loss on the answers. Returns the tokens seen."""
    import torch

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    started, seen = time.monotonic(), 0
    smooth: dict[str, float] = {}
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps, peak)
        batch = list(itertools.islice(stream, BATCH))
        examples = [chat.encode(tokenizer, lesson.messages) for lesson in batch]
        seen += sum(len(example.input_ids) for example in examples)
        losses = _losses(model, examples, tokenizer.pad_token_id)
        weights = torch.tensor([teaching.WEIGHTS[lesson.kind] for lesson in batch])
        ((losses * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        for lesson, loss in zip(batch, losses.detach().tolist(), strict=True):
            smooth[lesson.kind] = 0.98 * smooth.get(lesson.kind, loss) + 0.02 * loss
        if step % 100 == 0:
            shown = "  ".join(f"{kind} {loss:.3f}" for kind, loss in sorted(smooth.items()))
            click.echo(f"step {step}  {shown}  {seen:,} tokens  {time.monotonic() - started:.0f} s", err=True)
    return seen


def _learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a fiftieth of the peak."""
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def _losses(model: Any, examples: list[chat.Example], pad: int) -> Any:
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
