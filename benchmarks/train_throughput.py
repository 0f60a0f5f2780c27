"""Training throughput: the toolkit's own path beside the seed's way, full logits, pkt 0.3.0's way, TRL and Unsloth.

All ways train the same LoRA on the same base with the same examples and effective batch. Each run is a process of its
own on one thread, and the ways take turns, so that peak memory is a way's own and a busy machine slows all. The base is
a real one with the embedded corpus (`--base`), or has random weights in NF4 and random examples: Gemma's vocabulary
with a small body, or with a GPU the shape of Gemma 2B.
TRL and Unsloth are optional; each may live in an environment of its own (`--python trl=/tmp/trl/bin/python`).
`python benchmarks/train_throughput.py [--base FOLDER] [--way "trl: 1 x 4, bf16"] [--curve 50] [--memory-table]`
"""

from __future__ import annotations

import functools
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from toolkit.core import recipe
from toolkit.core.folder import library_versions
from toolkit.data import build, dataset
from toolkit.model import base as bases
from toolkit.model import chat, kernels, loading, memory
from toolkit.training import trainer
from toolkit.training.checkpoints import Spent
from toolkit.training.lessons import Lesson
from toolkit.training.progress import TrainingState

WAYS = {
    "seed": "the seed's way: one by one, loss on all tokens, full logits",
    "full-logits": "answer-only labels, padded batch, full logits",
    "packed": "pkt 0.3.0's way: packed 4 at once, each row complete, PyTorch's own kernels",
    "trl": "TRL's SFTTrainer, answer-only",
    "unsloth": "Unsloth on TRL's SFTTrainer, answer-only",
    "pkt": "pkt",
}
# What is packed into one row in 0.3.0's way.
PACKED = 4
# The label that cross-entropy leaves out.
IGNORED = -100
MAX_LENGTH = 512
# The same number in every run, because it decides the order in which the Trainers draw them.
EXAMPLES = 256
# Model type and sizes by their names in a configuration; one key and value head.
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "head_dim")
SHAPES = {
    "tiny": ("gemma", 4096, 64, 64, 1, 1, 64),
    "cpu": ("gemma", 256_000, 256, 1024, 6, 4, 64),
    "gemma-2b": ("gemma", 256_000, 2048, 16_384, 18, 8, 256),
    "gemma-3-1b": ("gemma3_text", 262_144, 1152, 6912, 26, 4, 256),
}
# Examples a step, as the recipes have them: of the seed for random weights, 16 for a real base.
BATCH, REAL_BATCH = 4, 16
# Dense peak of the tensor cores by device name: bf16, and fp16 for the T4. A CPU's is measured.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "T4": 65e12}
# Rows of the matrix products that measure a CPU.
ROWS = 1024
# What a card of 16 GB leaves to the allocator beside the CUDA context and fragmentation.
FITS_16_GB = 14 * 2**30
LABELS = {
    "examples_per_second": "examples/s",
    "examples_per_core_second": "examples/s of processor time",
    "peak_bytes": "peak memory",
}
MIB = 2**20
# What the way `mine`, divided by each `other` one, is to reach, by what is measured.
SPEED, PEAK = "examples_per_second", "peak_bytes"
TARGETS = {
    "real": [
        ("pkt", "packed", SPEED, 3.2),
        ("pkt: bf16", "packed", SPEED, 4.5),
        ("pkt", "trl", SPEED, 4),
        ("pkt", "packed", PEAK, 0.5),
    ],
    "cpu": [("pkt", "trl", SPEED, 10), ("pkt", "trl", PEAK, 0.75)],
    "cuda": [("pkt", "seed", SPEED, 2), ("pkt", "trl", SPEED, 1.25), ("pkt", "seed", PEAK, 0.6)],
}


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does: `way` is one of WAYS with its setting behind a colon, `base` to write a base of random
    weights, or `matrix` to measure the CPU. `folder` holds the examples, and is the base where that is random.
    """

    way: str
    shape: str
    folder: str
    base: str
    steps: int
    warm_up: int
    batch: int
    length: int | None = None

    @property
    def name(self) -> str:
        return self.way.partition(":")[0]

    @property
    def settings(self) -> list[str]:
        return [part for part in self.way.partition(":")[2].strip().split(", ") if part]


@click.command(context_settings={"show_default": True})
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="A real base, with the embedded corpus.")
@click.option("--shape", type=click.Choice(list(SHAPES)), help="[default: cpu, or gemma-2b with a GPU]")
@click.option("--rounds", default=3, help="Rounds in which each way runs once.")
@click.option("--steps", type=int, help="Optimiser steps that are timed [default: 2 of a real base, 6, 50 on a GPU].")
@click.option("--batch", type=int, help="Examples a step [default: 16 of a real base, else 4].")
@click.option("--way", "ways", multiple=True, help=f"One of {', '.join(WAYS)}, settings behind a colon. Several times.")
@click.option("--python", "pythons", multiple=True, help="WAY=PATH of the Python that has its packages.")
@click.option(
    "--memory-table", is_flag=True, help="Also peak memory of pkt by micro-batch and length (random weights)."
)
@click.option("--curve", type=int, help="Instead: the losses of so many steps, by the ways given, and their memory.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all runs here.")
@click.option("--job", hidden=True)
def main(
    base: Path | None,
    shape: str | None,
    rounds: int,
    steps: int | None,
    batch: int | None,
    ways: tuple[str, ...],
    pythons: tuple[str, ...],
    memory_table: bool,
    curve: int | None,
    file: Path | None,
    job: str | None,
) -> None:
    """Run the ways in turn; print medians, paired ratios with their range, and which targets are met.

    Settings of TRL: "4 x 1" (per device, accumulated; their product is the batch), padding-free, packing, bf16,
    bf16-base, onednn. Without any, all are tried and the fastest is taken. Of pkt: bf16.
    """
    if job:
        click.echo(json.dumps(work(Job(**json.loads(job)))))
        return
    if unknown := [way for way in ways if way.partition(":")[0] not in WAYS]:
        raise click.UsageError(f"{unknown[0]!r} does not begin with one of {', '.join(WAYS)}.")
    device = memory.hardware()
    gpu = device["device"] == "cuda"
    shape = base.name if base else shape or ("gemma-2b" if gpu else "cpu")
    ways = ways or (("packed", "trl", "pkt") if base else ("seed", "full-logits", "trl", "pkt"))
    PYTHONS.update(each.split("=", 1) for each in pythons)
    for name in ("trl", "unsloth"):
        if any(way.startswith(name) for way in ways) and name not in PYTHONS and importlib.util.find_spec(name) is None:
            click.echo(f"{name} is not installed and is left out: pip install {name}, and `--python {name}=PATH`")
            ways = tuple(way for way in ways if not way.startswith(name))
    facts: dict[str, Any] = {"device": device, "shape": shape, "versions": library_versions()}
    facts["load_before"] = os.getloadavg()
    click.echo(f"{device['name']}, {device['cores']} cores; {facts['versions']}; {shape}; load {load()}")
    with tempfile.TemporaryDirectory() as folder:
        steps = steps or (50 if gpu else 2 if base else 6)
        start = Job(
            "", shape, folder, str(base or folder), steps, 3 if gpu else 1, batch or (REAL_BATCH if base else BATCH)
        )
        write_inputs(start, base)
        known = [("device", flops) for name, flops in PEAK_FLOPS.items() if name in str(device["name"])]
        facts["matrix"] = dict(known) if gpu else succeed(replace(start, way="matrix"))
        if "trl" in ways:
            facts["tried"] = try_trl(start, gpu)
            ways = tuple(next(iter(facts["tried"])) if way == "trl" else way for way in ways)
        if curve:
            facts["curve"] = follow(replace(start, steps=curve, warm_up=0), ways)
        else:
            runs = facts["runs"] = take_turns(start, ways, rounds)
            facts["memory"] = measure_memory(start) if memory_table and not base else []
            facts["load_after"] = os.getloadavg()
            report(facts, runs, TARGETS["real" if base else str(device["device"])] if shape != "tiny" else [])
    if file:
        file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


# Interpreters of the ways that have their own.
PYTHONS: dict[str, str] = {}


def load() -> str:
    return " ".join(f"{number:.2f}" for number in os.getloadavg())


def write_inputs(start: Job, base: Path | None) -> None:
    """The base, where it is random, and the examples."""
    if base is None:
        succeed(replace(start, way="base"))
        rng = random.Random(0)
        examples = [example(rng, SHAPES[start.shape][1], None) for _ in range(EXAMPLES)]
    else:
        built = Path(start.folder) / "dataset"
        build.build_dataset(built)
        tokenizer = loading.load_tokenizer(base)
        chat.set_template(tokenizer)
        rows = dataset.read_split(dataset.locate_dataset(str(built)), "train")
        examples = [chat.encode(tokenizer, row["messages"]) for row in rows]
    (Path(start.folder) / "examples.json").write_text(json.dumps([asdict(one) for one in examples]), encoding="ascii")


def launch(job: Job) -> dict[str, Any]:
    """A job in a process of its own; `failed` when it did not work."""
    command = [PYTHONS.get(job.name, sys.executable), __file__, "--job", json.dumps(asdict(job))]
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    # An interpreter with packages of its own runs the toolkit of this one.
    path = os.pathsep.join(filter(None, (str(Path(recipe.__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    quiet |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet)
    if done.returncode:
        return {"failed": "\n".join(done.stderr.strip().splitlines()[-3:])}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def succeed(job: Job) -> dict[str, Any]:
    result = launch(job)
    if "failed" in result:
        raise click.ClickException(f"{job.way}: {result['failed']}")
    return result


def take_turns(start: Job, ways: Sequence[str], rounds: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            runs[way].append(run := succeed(replace(start, way=way)))
            speeds = ", ".join(f"{name} {run[key]:,.2f}" for key, name in LABELS.items() if key != PEAK)
            click.echo(f"round {number + 1}, {way}: {speeds}, {run[PEAK] / MIB:,.0f} MiB; load {load()}")
    return runs


def try_trl(start: Job, gpu: bool) -> dict[str, dict[str, Any]]:
    """One short run of each setting of TRL that works, the fastest first: how batches are made, and in which numbers.

    On a CPU by the processor's time, which other programs disturb less.
    """
    sizes = [start.batch, *([PACKED] if start.batch > PACKED else []), 1]
    batches = [f"{size} x {start.batch // size}" for size in sizes]
    batches += [f"{batches[0]}, padding-free", f"1 x {start.batch // PACKED}, packing"]
    extras = ["", ", bf16-base" if is_real(start) else ", bf16"]
    if gpu:
        extras = ["", ", liger"] if importlib.util.find_spec("liger_kernel") else [""]
    key, tried = SPEED if gpu else "examples_per_core_second", {}
    for way in [f"trl: {batch}{extra}" for extra in extras for batch in batches]:
        result = launch(replace(start, way=way, steps=max(1, start.steps // 3), warm_up=0 if is_real(start) else 1))
        if "failed" not in result:
            tried[way] = result
        told = f"{LABELS[key]} {result[key]:.2f}, peak memory {result[PEAK] / MIB:,.0f} MiB" if way in tried else result
        click.echo(f"{way}: {told}")
    if not tried:
        raise click.ClickException("No setting of TRL works here: leave it out with --way.")
    return dict(sorted(tried.items(), key=lambda run: -run[1][key]))


def follow(start: Job, ways: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Losses and peak memory of each step by each way, two ways at a time, and how far each is from the first one."""
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(ways, pool.map(succeed, [replace(start, way=way) for way in ways]), strict=True))
    first = found[ways[0]]["losses"]
    columns = f"first and last loss | largest difference from `{ways[0]}` | peak memory after step 1, 10, the last"
    click.echo(f"\n| {start.steps} steps | {columns} | growth after step 10 |\n|---|---:|---:|---:|---:|")
    for way, run in found.items():
        losses, peaks = run["losses"], [run["peaks"][min(at, start.steps) - 1] for at in (1, 10, start.steps)]
        apart = max(abs(one - other) for one, other in zip(losses, first, strict=True))
        cells = f"{losses[0]:.4f}, {losses[-1]:.4f} | {apart:.1e} | {', '.join(f'{peak / MIB:,.0f}' for peak in peaks)}"
        click.echo(f"| {label(way)} | {cells} MiB | {peaks[2] / peaks[1] - 1:.1%} |")
    return found


def measure_memory(start: Job) -> list[dict[str, Any]]:
    """Peak memory of pkt by micro-batch and by tokens an example."""
    jobs = [
        replace(start, way=f"pkt: {micro_batch} x 1", steps=1, batch=max(start.batch, micro_batch), length=length)
        for micro_batch in (1, 2, 4, 8)
        for length in (128, 256, 512)
    ]
    return [{"micro_batch": int(job.way.split()[1]), "length": job.length, **launch(job)} for job in jobs]


# What happens in a process of its own.


def work(job: Job) -> dict[str, Any]:
    if job.name == "unsloth":
        # Before what it changes.
        importlib.import_module("unsloth")
    import torch

    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    if job.way == "base":
        write_base(job)
        return {}
    if job.way == "matrix":
        return matrix_speeds(job)
    data = [chat.Example(**one) for one in json.loads((Path(job.folder) / "examples.json").read_text("ascii"))]
    if job.length:
        rng = random.Random(0)
        data = [example(rng, SHAPES[job.shape][1], job.length) for _ in range(EXAMPLES)]
    products = kernels.best_kernels() if job.name == "pkt" else kernels.ONEDNN if "onednn" in job.settings else None
    with tempfile.TemporaryDirectory() as folder, kernels.float32_kernels(products):
        return measure(job, way_trainer(job, data, run_recipe(job), Path(folder)))


def write_base(job: Job) -> None:
    """A model of the shape with random weights, the same each time."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, *sizes = SHAPES[job.shape]
    config = AutoConfig.for_model(kind, num_key_value_heads=1, **dict(zip(SIZES, sizes, strict=True)))
    dtype = getattr(torch, memory.compute_dtype())
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        base = AutoModelForCausalLM.from_config(config, dtype=dtype)
    base.save_pretrained(job.base)


def example(rng: random.Random, vocabulary: int, length: int | None) -> chat.Example:
    """A prompt of 60 to 140 tokens and an answer of 4 to 9; or `length` tokens in all, 8 of them the answer."""
    prompt, answer = (length - 8, 8) if length else (rng.randint(60, 140), rng.randint(4, 9))
    return chat.Example([rng.randrange(3, vocabulary) for _ in range(prompt + answer)], prompt)


def is_real(job: Job) -> bool:
    return job.base != job.folder


def run_recipe(job: Job) -> recipe.Recipe:
    """The settings of a run, with as many steps as are measured."""
    import torch

    common: dict[str, Any] = {"training.max_steps": job.warm_up + job.steps, "training.batch_size": job.batch}
    if job.name == "pkt" and "bf16" in job.settings:
        common["training.compute"] = "bfloat16"
    if is_real(job):
        common |= {"training.learning_rate": 1e-3, "training.warmup_steps": 4, "training.quantization": "none"}
        return recipe.load_recipe(
            "demo", common | {"training.micro_batch_size": "auto", "lora.r": 16, "lora.alpha": 32}
        )
    at_once = next((int(each.split()[0]) for each in job.settings if " x " in each), BATCH)
    seeds = {
        "training.micro_batch_size": at_once,
        "training.quantization": "nf4",
        "training.optimizer": "paged_adamw_8bit" if torch.cuda.is_available() else "adamw",
    }
    return recipe.load_recipe("seed-gemma-2b", common | seeds)


def way_trainer(job: Job, data: list[chat.Example], settings: recipe.Recipe, folder: Path) -> Any:
    """A Trainer that is ready to train a fresh adapter on the base."""
    located = bases.LocatedBase(job.shape, None, Path(job.base))
    if job.name == "pkt":
        # As `pkt train` reads its rows.
        importlib.import_module("pyarrow.parquet")
        taught = [Lesson("loss", 1.0, dict(enumerate(data)), lambda row, _: data[row])]
        lora, precision, micro_batch = trainer.prepare_model(located, settings, taught, refuse)
        state = TrainingState(lambda _: None, Spent())
        ready = trainer.make_trainer(lora, taught, [], settings, folder, precision, micro_batch, state)
        # The toolkit's own batch names rows; `count_tokens` reads their examples.
        ready.data_collator = lambda rows: {"rows": rows, "examples": [data[row] for row in rows]}
        return ready
    precision = loading.Precision(settings.training.quantization, memory.compute_dtype())
    if "bf16-base" in job.settings:
        precision = replace(precision, compute="bfloat16")
    if job.name in ("trl", "unsloth"):
        return sft_trainer(job, located, precision, data, settings, folder)
    lora = loading.add_lora(loading.load_base(located, precision), settings.lora, settings.seed)
    return plain_trainer(job, lora, data, settings, folder, precision)


def refuse(note: str) -> None:
    """What the toolkit would tell its user, that the memory holds less than was asked for, is no measurement here."""
    raise click.ClickException(note)


def arguments(job: Job, settings: recipe.Recipe, folder: Path, precision: loading.Precision) -> dict[str, Any]:
    """Arguments of the other Trainers that say the same as the toolkit's, without its checkpoints."""
    import torch

    training = settings.training
    per_device = {"seed": 1, "full-logits": job.batch, "packed": PACKED}.get(job.name, job.batch)
    sizes = next((each.split(" x ") for each in job.settings if " x " in each), [per_device, job.batch // per_device])
    return {
        "per_device_train_batch_size": int(sizes[0]),
        "gradient_accumulation_steps": int(sizes[1]),
        "output_dir": str(folder),
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.scheduler,
        "warmup_steps": training.warmup_steps,
        "max_steps": training.max_steps,
        "optim": {"adamw": "adamw_torch"}.get(training.optimizer, training.optimizer),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "bf16": precision.compute == "bfloat16" or "bf16" in job.settings,
        "fp16": precision.compute == "float16" and "bf16" not in job.settings,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": settings.seed,
        "data_seed": settings.seed,
        "disable_tqdm": True,
        "report_to": [],
    }


def plain_trainer(job, lora, data, settings, folder, precision):
    """`transformers.Trainer`: with the model's own loss on all tokens one by one (the seed) or on padded answers; or as
    pkt 0.3.0 computed, packed.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    def packed_loss(output, labels, num_items_in_batch):
        return torch.nn.functional.cross_entropy(output.logits[0], labels[0, 1:], reduction="sum") / num_items_in_batch

    packs = job.name == "packed"
    return Trainer(
        model=lora,
        args=TrainingArguments(remove_unused_columns=False, **arguments(job, settings, folder, precision)),
        train_dataset=data,
        data_collator=packed if packs else functools.partial(padded, answers_only=job.name != "seed"),
        compute_loss_func=packed_loss if packs else None,
    )


def padded(batch: Sequence[chat.Example], answers_only: bool) -> dict[str, Any]:
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


def packed(batch: Sequence[chat.Example]) -> dict[str, Any]:
    """Examples in one row, `[1, tokens]`, kept apart by their positions; logits where an answer's token is next."""
    import torch

    ids, positions, keep, answers = [], [], [], [IGNORED]
    for one in batch:
        keep += range(len(ids) + one.answer_start - 1, len(ids) + len(one.input_ids) - 1)
        answers += one.answer_ids
        positions += range(len(one.input_ids))
        ids += one.input_ids
    row = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "labels": torch.tensor([answers]),
    }
    return row | {"logits_to_keep": torch.tensor(keep), "use_cache": False}


def sft_trainer(job, located, precision, data, settings, folder):
    """`SFTTrainer` on tokenised rows with the answer marked. Gradient checkpointing, on by default, costs time: off."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    rows = []
    for one in data:
        answer = [int(at >= one.answer_start) for at in range(len(one.input_ids))]
        rows.append({"input_ids": one.input_ids, "completion_mask": answer})
    lora = {"r": settings.lora.r, "lora_alpha": settings.lora.alpha, "lora_dropout": settings.lora.dropout}
    lora["target_modules"] = list(settings.lora.target_modules)
    if job.name == "unsloth":
        model, tokenizer = unsloth_model(job, lora, settings.seed)
        adapter = None
    else:
        model = loading.load_base(located, precision)
        tokenizer = loading.load_tokenizer(located.path if is_real(job) else bases.tiny_base_folder())
        adapter = LoraConfig(task_type="CAUSAL_LM", **lora)
    free = "padding-free" in job.settings
    return SFTTrainer(
        model=model,
        args=SFTConfig(
            completion_only_loss=True,
            gradient_checkpointing=False,
            use_liger_kernel="liger" in job.settings,
            packing="packing" in job.settings,
            padding_free=free,
            max_length=None if free else MAX_LENGTH,
            **arguments(job, settings, folder, precision),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=adapter,
    )


def unsloth_model(job, lora, seed):
    """Unsloth's own model with a fresh adapter, as its guide loads them, and the tokenizer."""
    import torch
    from unsloth import FastLanguageModel

    how = {"max_seq_length": MAX_LENGTH, "load_in_4bit": not is_real(job)}
    how["dtype"] = torch.bfloat16 if "bf16" in job.settings else torch.float32
    model, tokenizer = FastLanguageModel.from_pretrained(job.base, **how)
    lora |= {"bias": "none", "use_gradient_checkpointing": False, "random_state": seed}
    return FastLanguageModel.get_peft_model(model, **lora), tokenizer


def measure(job: Job, ready: Any) -> dict[str, Any]:
    """Train, and time what follows the warm-up steps."""
    gpu = memory.hardware()["device"] == "cuda"
    clock, seen = watch_steps(ready)
    clock.append((time.perf_counter(), time.process_time(), 0, 0, 0))
    ready.train()
    began, ended = clock[job.warm_up][:4], clock[-1][:4]
    seconds, core, _, read = (last - first for first, last in zip(began, ended, strict=True))
    counts = [count_tokens(inputs) for inputs in seen[began[2] : ended[2]]]
    lengths, scored = [length for each, _ in counts for length in each], sum(some for _, some in counts)
    return {
        "examples_per_second": len(lengths) / seconds,
        "examples_per_core_second": len(lengths) / core,
        "examples_per_step": len(lengths) / job.steps,
        "tokens_read_per_step": read / job.steps,
        "peak_bytes": clock[-1][4],
        "peaks": [at[4] for at in clock[1:]],
        "losses": [entry["loss"] for entry in ready.state.log_history if "loss" in entry],
        "flops_per_second": step_flops(job.base, read, scored) / (seconds if gpu else core),
    }


def watch_steps(ready: Any) -> tuple[list[tuple[float, float, int, int, int]], list[dict[str, Any]]]:
    """What fills while the Trainer trains: time, processor time, micro-batches, tokens read and peak memory at each
    step's end; and each micro-batch.
    """
    import torch
    from transformers import TrainerCallback

    clock: list[tuple[float, float, int, int, int]] = []
    seen: list[dict[str, Any]] = []
    read: list[int] = []
    training_step = ready.training_step

    def noting(lora: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        seen.append(dict(inputs))
        return training_step(lora, inputs, *rest, **named)

    def reading(_module: Any, _given: Any, inputs: dict[str, Any]) -> None:
        # Where logits are asked for, padding follows the last of them.
        asked, mask, ids = (inputs.get(name) for name in ("logits_to_keep", "attention_mask", "input_ids"))
        read.append(int(asked.max()) + 1 if asked is not None else ids.numel() if mask is None else int(mask.sum()))

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter(), time.process_time()
            clock.append((*now, len(seen), sum(read), memory.peak_memory_bytes()))

    ready.training_step = noting
    ready.model.register_forward_pre_hook(reading, with_kwargs=True)
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


def step_flops(base: str, read: int, scored: int) -> float:
    """What LoRA needs of the base's matrices: forward 2 a weight and token, the activations' gradients 2 more.

    4 N for each token that the way reads, with the N weights of the body's projections, and 4 hidden vocabulary for
    each token in the loss. A full backward pass would take 6 N; attention, the adapter's own weights, padding and
    recomputation are not counted. A way that reads an opening once for several examples has less to do.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base)
    size = memory.size_of(config)
    return 4.0 * size.linear * read + 4.0 * size.hidden * config.vocab_size * scored


def matrix_speeds(job: Job) -> dict[str, float]:
    """FLOP/s of one thread in the products of the base's body, forward and back: float32 by MKL or oneDNN, and bf16."""
    import torch
    from transformers import AutoConfig

    shapes = list(memory.size_of(AutoConfig.from_pretrained(job.base)).shapes.values())
    best = {"float32": 0.0, "bfloat16": 0.0}
    for products, kind in ((None, "float32"), (kernels.ONEDNN, "float32"), (None, "bfloat16")):
        seconds = 0.0
        for inputs, outputs in set(shapes):
            weight, *sides = (torch.randn(*size) for size in ((outputs, inputs), (ROWS, inputs), (ROWS, outputs)))
            weight, rows, gradients = (each.to(getattr(torch, kind)) for each in (weight, *sides))
            took = []
            with kernels.float32_kernels(products):
                for _ in range(5):
                    started = time.process_time()
                    rows @ weight.T
                    gradients @ weight
                    took.append(time.process_time() - started)
            seconds += min(took) * shapes.count((inputs, outputs))
        best[kind] = max(best[kind], 4 * ROWS * sum(map(math.prod, shapes)) / seconds)
    return best


# What is shown.


def label(way: str) -> str:
    name, _, settings = way.partition(": ")
    return WAYS[name] + (f" ({settings})" if settings else "")


def report(facts: dict[str, Any], runs: dict[str, list[dict[str, Any]]], targets: Sequence[Any]) -> None:
    speeds = facts["matrix"]
    click.echo(f"\nMatrix speed: {', '.join(f'{kind} {flops / 1e9:,.0f} GFLOP/s' for kind, flops in speeds.items())}\n")
    columns = ["way", *LABELS.values(), "tokens read a step", "first loss", "share of the matrix speed"]
    click.echo(f"| {' | '.join(columns)} |\n|---{'|---:' * (len(columns) - 1)}|")
    for way, measured in runs.items():
        kind = next((kind for kind in speeds if kind == "device" or ("bf16" in way) == (kind == "bfloat16")), None)
        flops = statistics.median(run["flops_per_second"] for run in measured)
        cells = [spread(measured, key) for key in LABELS]
        cells += [f"{measured[0]['tokens_read_per_step']:,.0f}", f"{measured[0]['losses'][0]:.6f}"]
        click.echo(f"| {label(way)} | {' | '.join(cells)} | {f'{flops / speeds[kind]:.2f}' if kind else ''} |")
    for mine in (way for way in runs if way.startswith("pkt")):
        click.echo(f"\n| {mine} divided by | {' | '.join(LABELS.values())} |\n|---|---:|---:|---:|")
        for other in (way for way in runs if not way.startswith("pkt")):
            click.echo(f"| {label(other)} | {' | '.join(spread(ratios(runs, mine, other), key) for key in LABELS)} |")
    click.echo("")
    for mine, than, key, bound in targets:
        for other in (way for way in runs if mine in runs and way.startswith(than)):
            divided = ratios(runs, mine, other)
            beyond = statistics.median(one[key] for one in divided) - bound
            least, missed = ("least", beyond < 0) if key == SPEED else ("most", beyond > 0)
            words = f"{LABELS[key]}, {mine} / {other}, at {least} {bound:g}"
            click.echo(f"target {words}: {'MISSED' if missed else 'met'}, {spread(divided, key)}")
    if facts["memory"]:
        click.echo(
            "\nPeak memory of pkt\n\n| micro-batch | tokens each | peak memory | fits 16 GB |\n|---:|---:|---:|---|"
        )
    for cell in facts["memory"]:
        fits = "yes" if cell.get(PEAK, math.inf) <= FITS_16_GB else "no"
        click.echo(f"| {cell['micro_batch']} | {cell['length']} | {cell.get(PEAK, math.inf) / MIB:,.0f} MiB | {fits} |")


def spread(runs: Sequence[dict[str, float]], key: str) -> str:
    """Median, and the range in brackets."""
    values = sorted(run[key] / (MIB if key == PEAK and run[key] > MIB else 1) for run in runs)
    digits = ",.0f" if values[0] > 100 else ".2f"
    unit = " MiB" if key == PEAK and values[0] > 100 else ""
    middle, least, most = (f"{value:{digits}}" for value in (statistics.median(values), values[0], values[-1]))
    return f"{middle}{unit} ({least}–{most})"


def ratios(runs: dict[str, list[dict[str, Any]]], mine: str, other: str) -> list[dict[str, float]]:
    """One way divided by another, round by round, by what is measured."""
    pairs = zip(runs[mine], runs[other], strict=True)
    return [{key: one[key] / than[key] for key in LABELS} for one, than in pairs]


if __name__ == "__main__":
    main()
