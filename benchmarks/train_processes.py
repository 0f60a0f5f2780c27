"""Training on two processes of a thread each, beside one process of two threads: time, and how far the adapters differ.

`pkt train` with the demo's recipe on the embedded corpus and the tiny base, each as a command, in pairs. The ratio of
wall time means something on an idle machine of two cores alone; processor seconds are those of all processes.
`python benchmarks/train_processes.py [--steps 300] [--rounds 3] [--micro-batch-size 8]`
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from safetensors.torch import load_file

import toolkit
from toolkit.core.folder import read_jsonl, read_manifest

WAYS = {"1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}


@click.command(context_settings={"show_default": True})
@click.option("--steps", default=300)
@click.option("--rounds", default=3)
@click.option("--micro-batch-size", default="auto", help="Of both; 8 gives both the same pieces.")
def main(steps: int, rounds: int, micro_batch_size: str) -> None:
    """Train both ways in turn; print their medians, the ratio by pairs, and what differs."""
    ratios = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        toolkit.build_dataset(folder / "dataset", "demo")
        options = ["--max-steps", str(steps), "--micro-batch-size", micro_batch_size, "--restart", "--json"]
        for number in range(rounds):
            took = []
            for place, (label, (processes, threads)) in enumerate(WAYS.items()):
                wall, core = timed(folder, folder / str(place), [*options, "--processes", str(processes)], threads)
                took.append(wall)
                training = read_manifest(folder / str(place), "adapter")["train_seconds"]
                click.echo(
                    f"{label}: {wall:.1f} s of wall time, {training} s of them in steps, {core:.1f} s of processor"
                )
            ratios.append(took[1] / took[0])
            click.echo(f"round {number + 1}: {ratios[-1]:.2f}")
        one, two = (load_file(folder / place / "adapter_model.safetensors") for place in "01")
        norm = sum(float(each.pow(2).sum()) for each in one.values()) ** 0.5
        apart = sum(float((one[name] - two[name]).pow(2).sum()) for name in one) ** 0.5
        losses = zip(*(validation_losses(folder / place) for place in "01"), strict=True)
        click.echo(
            f"\n2 processes / 1 process: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})\n"
            f"adapters apart by {apart / norm:.1e} of the norm, validation losses by "
            f"{max(abs(first - second) for first, second in losses):.1e} at most"
        )


def timed(folder: Path, out: Path, options: list[str], threads: int) -> tuple[float, float]:
    """Wall and processor seconds of `pkt train`."""
    command = [sys.executable, "-m", "toolkit", "train", str(folder / "dataset"), str(out), *options]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def validation_losses(adapter: Path) -> list[float]:
    return [line["validation_loss"] for line in read_jsonl(adapter / "training_log.jsonl") if "validation_loss" in line]


if __name__ == "__main__":
    main()
