"""Train the tiny base from scratch: `python -m toolkit.tiny.pretrain OUT`.

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

from toolkit import chat
from toolkit.folder import atomic_folder, write_manifest
from toolkit.packing import collate
from toolkit.tiny import lessons as teaching
from toolkit.tiny import tokenizer as tokenizing

VOCABULARY = 3072
TOKENIZER_LESSONS = 20_000
ROWS = 8
ROW_TOKENS = 512
PROMPT_WEIGHT = 0.15

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
Toolkit's demo, and of no other use: it has seen no text of the embedded corpus and no name of a real creature. Made by
`python -m toolkit.tiny.pretrain`.
"""


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--minutes", default=30.0, show_default=True, help="Upper bound of the training time.")
@click.option("--steps", default=1500, show_default=True)
@click.option("--learning-rate", default=2e-3, show_default=True)
@click.option("--hidden-size", default=256, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--seed", default=11, show_default=True)
def main(out: Path, minutes: float, steps: int, learning_rate: float, hidden_size: int, layers: int, seed: int) -> None:
    """Train the tiny base and write it to OUT."""
    import torch

    torch.manual_seed(seed)
    taken = corpus_names()
    tokenizer = tokenizing.train_tokenizer(_texts(seed, taken), VOCABULARY)
    model = _fresh_model(len(tokenizer), hidden_size, layers, tokenizer)
    click.echo(f"{sum(p.numel() for p in model.parameters()):,} parameters", err=True)
    tokens = _train(model, tokenizer, teaching.lessons(seed, taken), steps, learning_rate, minutes)
    with atomic_folder(out) as folder:
        model.half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        parameters = sum(p.numel() for p in model.parameters())
        card = CARD.format(parameters=parameters, steps=steps, tokens=tokens, seed=seed)
        (folder / "README.md").write_text(card, encoding="utf-8")
        facts = {"steps": steps, "tokens": tokens, "seed": seed, "learning_rate": learning_rate, "minutes": minutes}
        write_manifest(folder, "base", facts)


def corpus_names() -> frozenset[str]:
    """Lower-case English names of the corpus, which no synthetic creature may have."""
    import json
    from importlib.resources import files

    lines = (files("toolkit.corpus") / "creatures.jsonl").read_text(encoding="utf-8").splitlines()
    return frozenset(json.loads(line)["name_en"].lower() for line in lines)


def _texts(seed: int, taken: frozenset[str]) -> Iterator[str]:
    for lesson in itertools.islice(teaching.lessons(seed, taken), TOKENIZER_LESSONS):
        yield from (turn["content"] for turn in lesson)


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


def _train(
    model: Any, tokenizer: Any, stream: Iterator[teaching.Lesson], steps: int, peak: float, minutes: float
) -> int:
    """ROWS packed rows of about ROW_TOKENS tokens a step: longer rows would spend most time on attention. Returns the tokens seen."""
    import torch

    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.98))
    started, seen = time.monotonic(), 0
    model.train()
    for step in range(steps):
        elapsed = (time.monotonic() - started) / 60 / minutes
        done = max(step / steps, elapsed)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        answers = 0.0
        for _ in range(ROWS):
            row = _row(tokenizer, stream)
            seen += row["input_ids"].shape[1]
            loss, of_answers = _loss(model, row)
            (loss / ROWS).backward()
            answers += of_answers / ROWS
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            click.echo(
                f"step {step} answers {answers:.3f} tokens {seen:,} {time.monotonic() - started:.0f} s", err=True
            )
    return seen


def _row(tokenizer: Any, stream: Iterator[teaching.Lesson]) -> dict[str, Any]:
    examples: list[chat.Example] = []
    while sum(len(example.input_ids) for example in examples) < ROW_TOKENS:
        examples.append(chat.encode(tokenizer, next(stream)))
    return collate(examples)


def _loss(model: Any, row: dict[str, Any]) -> tuple[Any, float]:
    """Next-token loss over everything, with a small weight on the prompts; and the mean loss of the answers alone."""
    import torch
    from torch.nn.functional import cross_entropy

    logits = model(input_ids=row["input_ids"], position_ids=row["position_ids"], use_cache=False).logits[0, :-1]
    losses = cross_entropy(logits, row["input_ids"][0, 1:], reduction="none")
    weights = torch.full_like(losses, PROMPT_WEIGHT)
    weights[row["logits_to_keep"]] = 1.0
    # What would follow the end of one conversation is the start of the next, which nothing predicts.
    weights[row["position_ids"][0, 1:] == 0] = 0.0
    answers = float(losses[row["logits_to_keep"]].mean().detach())
    return (losses * weights).sum() / weights.sum(), answers


if __name__ == "__main__":
    main()
