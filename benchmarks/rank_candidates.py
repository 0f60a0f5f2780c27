"""Ranking 1,025 names after one description: tries over the cached prompt, beside separate passes and beside the floor.

Each base in one process, all ways in turn. Separate passes read prompt and name anew, sixteen at a time, with logits at
the names' tokens only. The floor is what the arithmetic costs without anything around it: the matrix products of prompt
and distinct prefixes in every layer, and head and softmax once for each distinct prefix.

Bases: the tiny one; and a Gemma of random weights (hidden size 256, 6 layers) with 2,048 words and a tokenizer of as
many, and with 256,000, of which the texts use the same 2,048. Seconds are processor time, so that other work on the
machine counts little; on one thread of a quiet machine that is the time that passes.
`python benchmarks/rank_candidates.py [--rounds 3] [--threads 1] [--base gemma-2048] [--names 1025] [--prompt 120]`
"""

import random
import statistics
import sys
import time
from pathlib import Path

import click
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from toolkit.model import base as bases
from toolkit.model import chat, loading, rank
from toolkit.model.prompts import Reader

# `tiny_base` lies beside this folder, and is no part of what is installed.
sys.path.insert(0, str(Path(__file__).parent.parent))
from tiny_base.pretrain import train_tokenizer
from tiny_base.synthetic import describe, invent_name, sample_creature

BATCH = 16
WORDS = 2048
BASES = {"tiny": None, "gemma-2048": 2048, "gemma-256000": 256_000}
# Rows of logits at once in the floor: larger matrices are no faster.
ROWS = 256


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--base", "bases", multiple=True, type=click.Choice(list(BASES)), help="Several times; all by default.")
@click.option("--names", default=1025, show_default=True)
@click.option("--prompt", "length", default=120, show_default=True, help="Tokens; the description is made to fit.")
def main(rounds: int, threads: int, bases: tuple[str, ...], names: int, length: int) -> None:
    """Time all ways in turn and print their medians, and the medians of their ratios round by round."""
    torch.set_num_threads(threads)
    for name in bases or BASES:
        base, tokenizer = load(name)
        prompt, candidates = workload(tokenizer, names, length)
        read = len(prefixes(candidates))
        click.echo(f"{name}: {len(candidates)} names with {read} distinct prefixes, after {len(prompt)} tokens")
        compare(base, prompt, candidates, rounds)


def load(name):
    """A base in float32 and the tokenizer of its words."""
    words = BASES[name]
    if words is None:
        base = AutoModelForCausalLM.from_pretrained(bases.tiny_base_folder(), dtype=torch.float32)
        return base.eval(), loading.load_tokenizer(bases.tiny_base_folder())
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gemma",
        vocab_size=words,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
    )
    return AutoModelForCausalLM.from_config(config).eval(), train_tokenizer(lessons(), WORDS)


def lessons():
    """Texts that a tokenizer learns its words from."""
    rng = random.Random(1)
    yield chat.REQUEST
    for _ in range(1500):
        creature = sample_creature(rng)
        yield describe(creature, rng, "caption")
        yield invent_name(creature, rng)


def workload(tokenizer, count, length):
    """A prompt of `length` tokens that describes synthetic creatures, and `count` invented names with their ends."""
    rng = random.Random(0)
    names: set[str] = set()
    while len(names) < count:
        names.add(invent_name(sample_creature(rng), rng))
    answers = rank.encode_answers(tokenizer, sorted(names))
    words: list[str] = []
    while True:
        words += describe(sample_creature(rng), rng, "caption").split()
        # Word by word, up to the length.
        for end in range(1, len(words) + 1):
            prompt = chat.prompt_ids(tokenizer, chat.naming_messages(" ".join(words[:end])))
            if len(prompt) >= length:
                return prompt, answers


def prefixes(candidates):
    """What is read and followed by something, each once."""
    return {tuple(candidate[:end]) for candidate in candidates for end in range(1, len(candidate))}


def compare(base, prompt, candidates, rounds):
    """Time the ways in turn and print what came out."""
    prepared, reader = rank.prepare(candidates), Reader(base)
    ways = {
        "separate passes": lambda: separate_passes(base, prompt, candidates),
        "tries, prepared before": lambda: rank.score(reader.read([prompt]), prepared)[0],
        "tries, with preparing": lambda: rank.log_likelihoods(base, prompt, candidates),
        "floor": lambda: floor(base, len(prompt), len(prefixes(candidates))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    scores = {}
    ways["tries, prepared before"]()
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            scores[name] = way()
            seconds[name].append(time.process_time() - started)
    for name, times in seconds.items():
        click.echo(f"  {name}: {spread(times, 2)} s")
    separate, tries, whole, least = seconds.values()
    click.echo(f"  separate passes divided by tries: {spread(ratios(separate, tries), 1)}")
    click.echo(f"  separate passes divided by tries with preparing: {spread(ratios(separate, whole), 1)}")
    click.echo(f"  tries divided by the floor: {spread(ratios(tries, least), 2)}")
    expected, found = scores["separate passes"], scores["tries, prepared before"]
    worst = max(abs(a - b) for a, b in zip(expected, found, strict=True))
    click.echo(f"  largest difference of a log-likelihood: {worst:.1e}")
    swapped = [abs(expected[a] - expected[b]) for a, b in zip(order(expected), order(found), strict=True) if a != b]
    near = f"the same but for {len(swapped)} that lie within {max(swapped):.1e}" if swapped else "the same"
    click.echo(f"  order: {near}")


def separate_passes(base, prompt, candidates):
    """What one writes first: prompt and candidate together, padded, sixteen at a time."""
    scores = []
    for start in range(0, len(candidates), BATCH):
        piece = candidates[start : start + BATCH]
        longest = max(map(len, piece))
        ids = torch.zeros(len(piece), len(prompt) + longest, dtype=torch.long)
        for row, candidate in enumerate(piece):
            ids[row, : len(prompt) + len(candidate)] = torch.tensor(prompt + candidate)
        with torch.inference_mode():
            logits = base(input_ids=ids, use_cache=False, logits_to_keep=longest + 1).logits.log_softmax(-1)
        for row, candidate in enumerate(piece):
            picked = logits[row, : len(candidate)].gather(1, torch.tensor(candidate)[:, None])
            scores.append(float(picked.double().sum()))
    return scores


def floor(base, prompt_length, prefix_count):
    """The matrix products of prompt and prefixes in each layer, and head and softmax at each prefix; no scores."""
    tokens, head = prompt_length + prefix_count, base.get_output_embeddings()
    with torch.inference_mode():
        for module in base.modules():
            if isinstance(module, torch.nn.Linear) and module is not head:
                module(torch.ones(tokens, module.in_features))
        for start in range(0, prefix_count + 1, ROWS):
            logits = head(torch.ones(min(ROWS, prefix_count + 1 - start), head.in_features))
            for part in logits.split(max(1, rank.BLOCK_BYTES // (4 * head.out_features))):
                part.log_softmax(-1)


def order(scores):
    """The candidates from the likeliest."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])


def ratios(slow, fast):
    """Round by round."""
    return [one / other for one, other in zip(slow, fast, strict=True)]


def spread(values, digits):
    """The median with its range."""
    return f"median {statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
