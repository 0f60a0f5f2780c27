"""Training throughput: the toolkit's own path beside the seed's way, full logits, and TRL's `SFTTrainer` at its best.

All ways train the same LoRA on the same NF4 base of random weights, with the same examples and effective batch. Each
run is a process of its own, and the ways take turns, so that peak memory is a way's own and a busy machine slows all.
Without a GPU the base has Gemma's vocabulary and a small body; with one it has the shape of Gemma 2B.
TRL is optional (`pip install trl -c constraints.txt`): where it is missing, its way is left out.
`python benchmarks/train_throughput.py [--rounds 3] [--json FILE] [--memory-table]`
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from toolkit.core import recipe
from toolkit.core.folder import library_versions
from toolkit.model import base as bases
from toolkit.model import loading, memory
from toolkit.model.chat import Example
from toolkit.training import trainer
from toolkit.training.checkpoints import Spent
from toolkit.training.progress import TrainingState

WAYS = {
    "seed": "the seed's way: 1 x 4, loss on all tokens, full logits",
    "full-logits": "answer-only labels, padded batch of 4, full logits",
    "trl": "TRL's SFTTrainer, answer-only",
    "ours": "pkt: packed, logits at the supervised positions",
}
BATCH = 4
# The label that cross-entropy leaves out.
IGNORED = -100
MAX_LENGTH = 512
# The same number in every run, because it decides the order in which the Trainers draw them.
EXAMPLES = 256
# Model type, vocabulary, hidden size, intermediate size, layers, heads, head dimension; one key and value head.
SHAPES = {
    "tiny": ("gemma", 4096, 64, 64, 1, 1, 64),
    "cpu": ("gemma", 256_000, 256, 1024, 6, 4, 64),
    "gemma-2b": ("gemma", 256_000, 2048, 16_384, 18, 8, 256),
    "gemma-3-1b": ("gemma3_text", 262_144, 1152, 6912, 26, 4, 256),
}
# How SFTTrainer can make its batches. Gradient checkpointing, on by default there, is off: it costs time.
TRL_BATCHES: dict[str, dict[str, Any]] = {
    "batch of 4": {"per_device_train_batch_size": BATCH},
    "1 x 4": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": BATCH},
    "padding-free": {"per_device_train_batch_size": BATCH, "padding_free": True, "max_length": None},
    "packing": {"per_device_train_batch_size": 1, "packing": True},
}
# Dense peak of the tensor cores by device name: bf16, and fp16 for the T4.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "T4": 65e12}
# What a card of 16 GB leaves to the allocator beside the CUDA context and fragmentation.
FITS_16_GB = 14 * 2**30
# Within what a first loss of about 12 is the same: bf16 and fp16 round it.
SAME_LOSS, SAME_ROUNDED_LOSS = 1e-4, 2e-2
LABELS = {
    "examples_per_second": "examples/s",
    "examples_per_core_second": "examples per second of processor time",
    "peak_bytes": "peak memory",
}
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Target:
    """What `ours` divided by the way `than` is to reach."""

    than: str
    key: str
    bound: float

    @property
    def words(self) -> str:
        comparison = "at least" if self.key == "examples_per_second" else "at most"
        return f"{LABELS[self.key]}, ours / {self.than}, {comparison} {self.bound:g}"

    def met_by(self, ratio: float) -> bool:
        return ratio >= self.bound if self.key == "examples_per_second" else ratio <= self.bound


TARGETS = {
    "cpu": [Target("trl", "examples_per_second", 8), Target("trl", "peak_bytes", 0.75)],
    "cuda": [
        Target("seed", "examples_per_second", 2),
        Target("trl", "examples_per_second", 1.25),
        Target("seed", "peak_bytes", 0.6),
    ],
}


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does: `way` is one of WAYS, or `base` to write the random base."""

    way: str
    shape: str
    base: str
    batches: int
    trl: str = ""
    micro_batch: int = BATCH
    length: int | None = None


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=3, help="Rounds in which each way runs once.")
@click.option("--batches", type=int, help="Optimiser steps that are timed [default: 6 on a CPU, 50 on a GPU].")
@click.option("--shape", type=click.Choice(list(SHAPES)), help="[default: cpu, or gemma-2b with a GPU]")
@click.option("--ways", multiple=True, type=click.Choice(list(WAYS)), default=list(WAYS))
@click.option("--trl-setting", help="A setting of TRL by name, in place of trying all and taking the fastest.")
@click.option("--memory-table", is_flag=True, help="Also peak memory of ours by micro-batch and length.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all runs here.")
@click.option("--job", hidden=True)
def main(
    rounds: int,
    batches: int | None,
    shape: str | None,
    ways: tuple[str, ...],
    trl_setting: str | None,
    memory_table: bool,
    file: Path | None,
    job: str | None,
) -> None:
    """Run the ways in turn; print medians, paired ratios with their range, and which targets are met."""
    if job:
        click.echo(json.dumps(work(Job(**json.loads(job)))))
        return
    if trl_setting and trl_setting.split(", ")[0] not in TRL_BATCHES:
        raise click.UsageError(f"A setting of TRL begins with one of {', '.join(TRL_BATCHES)}.")
    device = memory.hardware()
    gpu = device["device"] == "cuda"
    shape = shape or ("gemma-2b" if gpu else "cpu")
    batches = batches or (50 if gpu else 6)
    if "trl" in ways and importlib.util.find_spec("trl") is None:
        click.echo("TRL is not installed and is left out: pip install trl -c constraints.txt")
        ways = tuple(way for way in ways if way != "trl")
    facts: dict[str, Any] = {"device": device, "shape": shape, "batches": batches, "versions": versions()}
    facts["load_before"] = os.getloadavg()
    click.echo(f"{device['name']}, {device['cores']} cores; {facts['versions']}; {shape}; load {load()}")
    with tempfile.TemporaryDirectory() as folder:
        start = Job("base", shape, folder, batches)
        succeed(start)
        if "trl" in ways:
            facts["trl"] = try_trl(start, [trl_setting] if trl_setting else trl_settings(device["device"]))
            start = replace(start, trl=facts["trl"]["setting"])
        runs = facts["runs"] = take_turns(start, ways, rounds)
        if memory_table:
            facts["memory"] = measure_memory(start)
    facts |= {"load_after": os.getloadavg(), "ratios": ratios(runs)}
    report(facts, runs, TARGETS[device["device"]] if shape != "tiny" else [])
    if file:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    trl = {"trl": importlib.metadata.version("trl")} if importlib.util.find_spec("trl") else {}
    return library_versions() | trl


def load() -> str:
    return " ".join(f"{number:.2f}" for number in os.getloadavg())


def launch(job: Job) -> dict[str, Any]:
    """A job in a process of its own; `failed` when it did not work."""
    command = [sys.executable, __file__, "--job", json.dumps(asdict(job))]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
    if done.returncode:
        return {"failed": "\n".join(done.stderr.strip().splitlines()[-3:])}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def succeed(job: Job) -> dict[str, Any]:
    result = launch(job)
    if "failed" in result:
        raise click.ClickException(f"{job.way} {job.trl}: {result['failed']}")
    return result


def take_turns(start: Job, ways: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            runs[way].append(succeed(replace(start, way=way)))
        speeds = ", ".join(f"{way} {taken[-1]['examples_per_second']:.2f}" for way, taken in runs.items())
        click.echo(f"round {number + 1}: examples/s {speeds}; load {load()}")
    return runs


def trl_settings(device: str) -> list[str]:
    """Names of what is tried: how batches are made, and what else speeds a step up on this device."""
    precise = memory.compute_dtype()
    extras = ["", "bf16"] if precise != "bfloat16" else [""]
    if device == "cuda" and importlib.util.find_spec("liger_kernel"):
        extras += ["liger", *(["bf16, liger"] if precise != "bfloat16" else [])]
    return [f"{batch}, {extra}".rstrip(", ") for extra in extras for batch in TRL_BATCHES]


def try_trl(start: Job, settings: Sequence[str]) -> dict[str, Any]:
    """One short run of each setting of TRL, and the name of the fastest: on a CPU by the processor's time, which other
    programs disturb less.
    """
    batches = max(2, start.batches // 3)
    speed = "examples_per_second" if memory.hardware()["device"] == "cuda" else "examples_per_core_second"
    tried = {}
    for setting in settings:
        result = tried[setting] = launch(replace(start, way="trl", trl=setting, batches=batches))
        said = result.get("failed") or (
            f"{result[speed]:.2f} {LABELS[speed]}, {result['peak_bytes'] / MIB:,.0f} MiB, "
            f"first loss {result['first_loss']:.6f}"
        )
        click.echo(f"TRL, {setting}: {said}")
    worked = {setting: result[speed] for setting, result in tried.items() if "failed" not in result}
    if not worked:
        raise click.ClickException("No setting of TRL works here: leave it out with --ways.")
    return {"setting": max(worked, key=lambda setting: worked[setting]), "tried": tried}


def measure_memory(start: Job) -> list[dict[str, Any]]:
    """Peak memory of ours by micro-batch and by tokens an example."""
    jobs = [
        replace(start, way="ours", batches=1, micro_batch=micro_batch, length=length)
        for micro_batch in (1, 2, 4, 8)
        for length in (128, 256, 512)
    ]
    return [{"micro_batch": job.micro_batch, "length": job.length, **launch(job)} for job in jobs]


# What happens in a process of its own.


def work(job: Job) -> dict[str, Any]:
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    if job.way == "base":
        write_base(job)
        return {}
    warm_up = 3 if torch.cuda.is_available() else 1
    rng = random.Random(0)
    data = [example(rng, SHAPES[job.shape][1], job.length) for _ in range(EXAMPLES)]
    settings = run_recipe(job, warm_up + job.batches)
    with tempfile.TemporaryDirectory() as folder:
        return measure(job, way_trainer(job, data, settings, Path(folder)), warm_up)


def write_base(job: Job) -> None:
    """A model of the shape with random weights, the same each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, vocabulary, hidden, intermediate, layers, heads, head_dim = SHAPES[job.shape]
    config = AutoConfig.for_model(
        kind,
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        head_dim=head_dim,
    )
    dtype = getattr(torch, memory.compute_dtype())
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    base.save_pretrained(job.base)


def example(rng: random.Random, vocabulary: int, length: int | None) -> Example:
    """A prompt of 60 to 140 tokens and an answer of 4 to 9; or `length` tokens in all, 8 of them the answer."""
    prompt, answer = (length - 8, 8) if length else (rng.randint(60, 140), rng.randint(4, 9))
    return Example([rng.randrange(3, vocabulary) for _ in range(prompt + answer)], prompt)


def run_recipe(job: Job, steps: int) -> recipe.Recipe:
    """The seed's own settings, with as many steps as are measured."""
    import torch

    changes = {
        "training.batch_size": max(BATCH, job.micro_batch),
        "training.micro_batch_size": job.micro_batch,
        "training.max_steps": steps,
        "training.optimizer": "paged_adamw_8bit" if torch.cuda.is_available() else "adamw",
    }
    return recipe.load_recipe("seed-gemma-2b", changes)


def way_trainer(job: Job, data: list[Example], settings: recipe.Recipe, folder: Path) -> Any:
    """A Trainer that is ready to train a fresh adapter on the base."""
    located = bases.LocatedBase(job.shape, None, Path(job.base))
    if job.way == "ours":
        # As `pkt train` reads its rows.
        importlib.import_module("pyarrow.parquet")
        lora, precision, micro_batch = trainer.prepare_model(located, settings, data, refuse)
        state = TrainingState(lambda _: None, Spent())
        return trainer.make_trainer(lora, data, [], settings, folder, precision, micro_batch, state)
    precision = loading.chosen_precision(located, "nf4")
    base = loading.load_base(located, precision)
    if job.way == "trl":
        return trl_trainer(job, base, data, settings, folder, precision)
    lora = loading.add_lora(base, settings.lora, settings.seed)
    return plain_trainer(job, lora, data, settings, folder, precision)


def refuse(note: str) -> None:
    """What the toolkit would tell its user, that the memory holds less than was asked for, is no measurement here."""
    raise click.ClickException(note)


def shared_arguments(settings: recipe.Recipe, folder: Path, precision: loading.Precision) -> dict[str, Any]:
    """Arguments of the other Trainers that say the same as the toolkit's, without its logging and checkpoints."""
    training = settings.training
    return {
        "output_dir": str(folder),
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "max_steps": training.max_steps,
        "optim": {"adamw": "adamw_torch"}.get(training.optimizer, training.optimizer),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "bf16": precision.compute == "bfloat16",
        "fp16": precision.compute == "float16",
        "use_cpu": precision.compute == "float32",
        "logging_first_step": True,
        "logging_steps": 10_000,
        "save_strategy": "no",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "disable_tqdm": True,
        "report_to": [],
    }


def plain_trainer(job, lora, data, settings, folder, precision):
    """`transformers.Trainer` with the model's own loss: on all tokens one by one (the seed), or on padded answers."""
    from transformers import Trainer, TrainingArguments

    seed = job.way == "seed"
    arguments = TrainingArguments(
        per_device_train_batch_size=1 if seed else BATCH,
        gradient_accumulation_steps=BATCH if seed else 1,
        remove_unused_columns=False,
        **shared_arguments(settings, folder, precision),
    )
    collator = functools.partial(padded, answers_only=not seed)
    return Trainer(model=lora, args=arguments, train_dataset=data, data_collator=collator)


def padded(batch: Sequence[Example], answers_only: bool) -> dict[str, Any]:
    """Examples as rows of one length, `[batch, tokens]`."""
    import torch

    longest = max(len(one.input_ids) for one in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, one in enumerate(batch):
        first, end = one.answer_start if answers_only else 0, len(one.input_ids)
        ids[row, :end] = torch.tensor(one.input_ids)
        mask[row, :end] = 1
        labels[row, first:end] = torch.tensor(one.input_ids[first:])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trl_trainer(job, base, data, settings, folder, precision):
    """`SFTTrainer` on tokenised rows with the answer marked; it puts the adapter on the model itself."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = []
    for one in data:
        answer = [int(at >= one.answer_start) for at in range(len(one.input_ids))]
        rows.append({"input_ids": one.input_ids, "completion_mask": answer})
    batches, *extras = job.trl.split(", ")
    arguments = shared_arguments(settings, folder, precision) | {"max_length": MAX_LENGTH} | TRL_BATCHES[batches]
    if "bf16" in extras:
        arguments |= {"bf16": True, "fp16": False}
    lora = settings.lora
    return SFTTrainer(
        model=base,
        args=SFTConfig(
            completion_only_loss=True,
            gradient_checkpointing=False,
            use_liger_kernel="liger" in extras,
            **arguments,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=loading.load_tokenizer(bases.tiny_base_folder()),
        peft_config=LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.target_modules),
            task_type="CAUSAL_LM",
        ),
    )


def measure(job: Job, ready: Any, warm_up: int) -> dict[str, Any]:
    """Train, and time what follows the warm-up steps."""
    clock, seen = watch_steps(ready)
    ready.train()
    (began, began_cpu, first), (ended, ended_cpu, last) = clock[warm_up - 1][:3], clock[-1][:3]
    counts = [count_tokens(inputs) for inputs in seen[first:last]]
    lengths, scored = [length for each, _ in counts for length in each], sum(some for _, some in counts)
    seconds = ended - began
    losses = [entry["loss"] for entry in ready.state.log_history if "loss" in entry]
    return {
        "examples_per_second": len(lengths) / seconds,
        "examples_per_core_second": len(lengths) / (ended_cpu - began_cpu),
        "tokens_per_second": sum(lengths) / seconds,
        "examples_per_step": len(lengths) / (len(clock) - warm_up),
        "core_share": (ended_cpu - began_cpu) / seconds,
        "peak_bytes": clock[-1][3],
        "first_loss": losses[0],
        "flops_per_second": step_flops(job.shape, lengths, scored) / seconds,
    }


def watch_steps(ready: Any) -> tuple[list[tuple[float, float, int, int]], list[dict[str, Any]]]:
    """What fills while the Trainer trains: time, processor time, micro-batches and peak memory at each step's end; and
    each micro-batch.
    """
    import torch
    from transformers import TrainerCallback

    clock: list[tuple[float, float, int, int]] = []
    seen: list[dict[str, Any]] = []
    training_step = ready.training_step

    def noting(lora: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        seen.append(dict(inputs))
        return training_step(lora, inputs, *rest, **named)

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.append((time.perf_counter(), time.process_time(), len(seen), memory.peak_memory_bytes()))

    ready.training_step = noting
    ready.add_callback(Clock())
    return clock, seen


def count_tokens(inputs: dict[str, Any]) -> tuple[list[int], int]:
    """Tokens of each sequence of a micro-batch, without padding, and how many tokens are in the loss."""
    if "examples" in inputs:  # the toolkit's own
        batch = inputs["examples"]
        return [len(one.input_ids) for one in batch], sum(len(one.answer_ids) for one in batch)
    scored = int((inputs["labels"][:, 1:] != IGNORED).sum())
    if "attention_mask" in inputs:
        return [int(row.sum()) for row in inputs["attention_mask"]], scored
    positions = inputs["position_ids"][0].tolist()
    starts = [index for index, position in enumerate(positions) if position == 0]
    return [end - start for start, end in zip(starts, [*starts[1:], len(positions)], strict=True)], scored


def step_flops(shape: str, lengths: Sequence[int], scored: int) -> float:
    """What LoRA's mathematics needs: the forward pass (2 a weight and token) and the activations' gradients (2 more).

    4 N tokens for the N weights of the body's projections, 4 hidden vocabulary for each token in the loss, and for the
    attention 6 tokens^2 heads head_dim a layer and sequence (causal: half of the square). A full backward pass would
    take 6 N; the adapter's own weights, padding and recomputation are not counted.
    """
    _, vocabulary, hidden, intermediate, layers, heads, head_dim = SHAPES[shape]
    body = layers * hidden * (2 * heads * head_dim + 2 * head_dim + 3 * intermediate)
    attention = 6 * layers * heads * head_dim * sum(length**2 for length in lengths)
    return 4 * body * sum(lengths) + 4 * hidden * vocabulary * scored + attention


# What is shown.


def report(facts: dict[str, Any], runs: dict[str, list[dict[str, Any]]], targets: Sequence[Target]) -> None:
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in facts["device"]["name"]), None)
    gpu = facts["device"]["device"] == "cuda"
    last = "MFU" if gpu else "examples/s of processor time"
    click.echo(f"\n| way | examples/s | tokens/s | peak memory | first loss | {last} |\n|---|---:|---:|---:|---:|---:|")
    for way, measured in runs.items():
        label = WAYS[way] + (f" ({facts['trl']['setting']})" if way == "trl" else "")
        speed = spread([run["examples_per_second"] for run in measured])
        tokens, memory, core, flops = (
            statistics.median(run[key] for run in measured)
            for key in ("tokens_per_second", "peak_bytes", "examples_per_core_second", "flops_per_second")
        )
        use = f"{core:.2f}" if not gpu else f"{flops / peak:.1%}" if peak else "unknown device"
        loss = f"{measured[0]['first_loss']:.6f}"
        click.echo(f"| {label} | {speed} | {tokens:,.0f} | {memory / MIB:,.0f} MiB | {loss} | {use} |")
    if gpu:
        formula = "FLOPs = 4 N tokens + 4 hidden vocabulary (tokens in the loss) + 6 layers heads head_dim tokens^2"
        click.echo(f"\nMFU: {formula}, against {peak:.3g} FLOP/s." if peak else f"\n{formula}; peak not known.")
    click.echo("")
    for name, values in facts["ratios"].items():
        if not gpu or LABELS["examples_per_core_second"] not in name:
            click.echo(f"{name}: {spread(values)}")
    losses(facts, runs)
    for target in targets:
        values = facts["ratios"].get(ratio_name(target.than, target.key))
        if values:
            verdict = "met" if target.met_by(statistics.median(values)) else "MISSED"
            click.echo(f"target {target.words}: {verdict} ({spread(values)})")
    memory_lines(facts.get("memory", []))


def spread(values: Sequence[float]) -> str:
    """Median, and the range in brackets."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def ratio_name(than: str, key: str) -> str:
    return f"ours / {than}, {LABELS[key]}"


def ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, list[float]]:
    """Ours divided by each other way, round by round."""
    return {
        ratio_name(way, key): [ours[key] / other[key] for ours, other in zip(runs["ours"], measured, strict=True)]
        for way, measured in runs.items()
        for key in LABELS
        if way != "ours" and "ours" in runs
    }


def losses(facts: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> None:
    """Say whether the first loss of ours is that of each way whose first batch and loss are the same."""
    if "ours" not in runs:
        return
    ours = runs["ours"][0]["first_loss"]
    others = {"full-logits": runs["full-logits"][0]["first_loss"]} if "full-logits" in runs else {}
    for setting, run in facts.get("trl", {}).get("tried", {}).items():
        if "first_loss" in run and "packing" not in setting:
            others[f"TRL, {setting}"] = run["first_loss"]
    for name, loss in others.items():
        rounded = facts["device"]["device"] == "cuda" or "bf16" in name
        bound, difference = SAME_ROUNDED_LOSS if rounded else SAME_LOSS, abs(loss - ours)
        verdict = "the same" if difference <= bound else "NOT the same"
        click.echo(f"first loss, {name}: {verdict} as ours within {bound:g} (difference {difference:.1e})")
    if "seed" in runs:
        click.echo("first loss, seed: not comparable (over all tokens)")
    if "trl" in runs and len(others) < len(facts["trl"]["tried"]) + ("full-logits" in runs):
        click.echo("first loss, TRL with packing: not comparable (other batches)")


def memory_lines(cells: Sequence[dict[str, Any]]) -> None:
    if cells:
        click.echo("\nPeak memory of ours\n\n| micro-batch | tokens each | MiB | fits 16 GB |\n|---:|---:|---:|---|")
    for cell in cells:
        memory = cell.get("peak_bytes", math.inf)
        fits = "yes" if memory <= FITS_16_GB else "no"
        click.echo(f"| {cell['micro_batch']} | {cell['length']} | {memory / MIB:,.0f} | {fits} |")


if __name__ == "__main__":
    main()
