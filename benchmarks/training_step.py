"""One optimiser step's worth of examples with Gemma's vocabulary: ours, beside padded batches with full logits.

A random Gemma of hidden size 256 and 6 layers with 256,000 words, in float32, LoRA of rank 6 on all projections. Each
way runs in processes of its own, in turn, so that peak memory is its own.
`python benchmarks/training_step.py [--rounds 3]`
"""

import json
import random
import resource
import statistics
import subprocess
import sys
import time

import click
import torch

from toolkit import packing
from toolkit.chat import Example

WAYS = ("full logits", "ours")
VOCABULARY = 256_000
BATCH = 4


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--batches", default=6, show_default=True, help="Batches of four examples that are timed.")
@click.option("--way", type=click.Choice(WAYS), help="Run one way in this process.")
def main(rounds: int, batches: int, way: str | None) -> None:
    """Run both ways in turn and print medians and ratios."""
    if way:
        click.echo(json.dumps(measure(way, batches)))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name in WAYS:
            command = [sys.executable, __file__, "--way", name, "--batches", str(batches)]
            runs[name].append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for name, measured in runs.items():
        rate = statistics.median(run["examples_per_second"] for run in measured)
        memory = statistics.median(run["peak_mb"] for run in measured)
        click.echo(f"{name}: {rate:.2f} examples/s, {memory:,.0f} MB at the peak, first loss {measured[0]['loss']:.6f}")
    for key, label in (("examples_per_second", "examples/s"), ("peak_mb", "peak memory")):
        ratios = [ours[key] / full[key] for full, ours in zip(runs["full logits"], runs["ours"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        click.echo(f"ours / full logits, {label}: median {statistics.median(ratios):.2f} ({spread})")


def measure(way: str, batches: int) -> dict[str, float]:
    """Examples a second, peak memory and the first loss of one way."""
    torch.set_num_threads(1)
    base = lora_gemma()
    optimizer = torch.optim.AdamW([p for p in base.parameters() if p.requires_grad], lr=2e-4)
    loss_of = {"full logits": full_loss, "ours": our_loss}[way]
    rng = random.Random(0)
    data = [[example(rng) for _ in range(BATCH)] for _ in range(batches + 1)]
    losses, started = [], 0.0
    for number, batch in enumerate(data):
        if number == 1:  # the first batch warms up
            started = time.perf_counter()
        loss = loss_of(base, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"examples_per_second": batches * BATCH / seconds, "peak_mb": peak, "loss": losses[0]}


def lora_gemma():
    """The model, the same in every process."""
    from peft import LoraConfig, get_peft_model
    from transformers import GemmaConfig, GemmaForCausalLM

    torch.manual_seed(0)
    config = GemmaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
    )
    return get_peft_model(GemmaForCausalLM(config), LoraConfig(r=6, lora_alpha=8, target_modules="all-linear"))


def example(rng: random.Random) -> Example:
    """A prompt of 60 to 140 tokens and an answer of 4 to 9."""
    prompt, answer = rng.randint(60, 140), rng.randint(4, 9)
    return Example([rng.randrange(3, VOCABULARY) for _ in range(prompt + answer)], prompt)


def our_loss(base, batch):
    """Packed, with logits at the supervised positions only."""
    inputs = packing.collate(batch)
    labels = inputs.pop("labels")
    return packing.answer_loss(base(**inputs), labels)


def full_loss(base, batch):
    """Padded, with full logits and the prompt ignored in the labels: what a collator and a model's own loss do."""
    longest = max(len(one.input_ids) for one in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, packing.IGNORED)
    for row, one in enumerate(batch):
        ids[row, : len(one.input_ids)] = torch.tensor(one.input_ids)
        mask[row, : len(one.input_ids)] = 1
        labels[row, one.answer_start : len(one.input_ids)] = torch.tensor(one.answer_ids)
    return base(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss


if __name__ == "__main__":
    main()
