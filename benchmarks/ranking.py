"""Ranking 1,025 names after one description: the trie over the cached prompt, beside separate full passes.

Both in one process, in turn, on the tiny base in float32. Prints seconds, their ratio, and the largest difference
between the log-likelihoods. `python benchmarks/ranking.py [--rounds 3] [--threads 1]`
"""

import random
import statistics
import time

import click
import torch
from transformers import AutoModelForCausalLM

from toolkit import chat, model, rank, tiny
from toolkit.tiny.synthetic import describe, invent_name, sample_creature

NAMES = 1025
BATCH = 16


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(rounds: int, threads: int) -> None:
    """Time both ways in turn and print the medians."""
    torch.set_num_threads(threads)
    base = AutoModelForCausalLM.from_pretrained(tiny.base_folder(), dtype=torch.float32).eval()
    tokenizer = model.load_tokenizer(tiny.base_folder())
    prompt, candidates = workload(tokenizer)
    ways = {"separate passes": separate_passes, "trie": rank.log_likelihoods}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            scores[name] = way(base, prompt, candidates)
            seconds[name].append(time.perf_counter() - started)
    for name, times in seconds.items():
        click.echo(f"{name}: median {statistics.median(times):.2f} s (min {min(times):.2f}, max {max(times):.2f})")
    ratios = [slow / fast for slow, fast in zip(*seconds.values(), strict=True)]
    click.echo(f"ratio: median {statistics.median(ratios):.1f} (min {min(ratios):.1f}, max {max(ratios):.1f})")
    worst = max(abs(a - b) for a, b in zip(*scores.values(), strict=True))
    click.echo(f"largest difference of a log-likelihood: {worst:.1e}")


def workload(tokenizer):
    """A prompt about a synthetic creature, and the answers of 1,025 invented names."""
    rng = random.Random(0)
    creature = sample_creature(rng)
    names: set[str] = set()
    while len(names) < NAMES:
        names.add(invent_name(sample_creature(rng), rng))
    messages = chat.naming_messages(describe(creature, rng, "caption"))
    answers = [chat.encode(tokenizer, chat.with_answer(messages, name)).answer_ids for name in sorted(names)]
    return chat.prompt_ids(tokenizer, messages), answers


def separate_passes(base, prompt, candidates):
    """What one writes first: prompt and candidate together, padded, sixteen at a time."""
    scores = []
    for start in range(0, len(candidates), BATCH):
        piece = candidates[start : start + BATCH]
        longest = len(prompt) + max(map(len, piece))
        ids = torch.zeros(len(piece), longest, dtype=torch.long)
        for row, candidate in enumerate(piece):
            ids[row, : len(prompt) + len(candidate)] = torch.tensor(prompt + candidate)
        with torch.inference_mode():
            logits = base(input_ids=ids, use_cache=False).logits.float().log_softmax(-1)
        for row, candidate in enumerate(piece):
            places = range(len(prompt) - 1, len(prompt) - 1 + len(candidate))
            scores.append(sum(float(logits[row, place, token]) for place, token in zip(places, candidate, strict=True)))
    return scores


if __name__ == "__main__":
    main()
