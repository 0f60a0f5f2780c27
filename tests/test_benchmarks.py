"""Each script in benchmarks/ answers --help, and runs at its smallest size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALLEST = {
    "build_dataset.py": ["--rows", "200", "--pairs", "200"],
    "evaluate.py": ["--rows", "2", "--plain-rows", "1"],
    "first_answer.py": ["--rounds", "1"],
    "local_hub.py": ["--files", "20", "--commits", "2", "--shape", "flat"],
    "near_duplicates.py": ["--texts", "200", "--texts", "400", "--pairs", "200"],
    "rehearsal.py": [],
    "rank_candidates.py": ["--rounds", "1", "--base", "tiny", "--names", "20"],
    "train_processes.py": ["--steps", "2", "--rounds", "1"],
    "train_throughput.py": [
        *("--shape", "tiny", "--rounds", "1", "--steps", "1"),
        *("--way", "full-logits", "--way", "packed", "--way", "pkt"),
    ],
}
# By a test of their own.
TESTED_ELSEWHERE = {"train_throughput.py", "rehearsal.py"}


def run(script: str, *arguments: str) -> str:
    """What a script prints; it must succeed."""
    # Benchmarks measure one thread; a GPU's own shapes are not what these tests are about.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_benchmark_has_a_smallest_size_here():
    assert {path.name for path in BENCHMARKS.glob("*.py")} == SMALLEST.keys()


@pytest.mark.parametrize("script", SMALLEST)
def test_help_says_how_to_run_it(script):
    assert run(script, "--help").startswith(f"Usage: {script} [OPTIONS]")


@pytest.mark.parametrize("script", sorted(SMALLEST.keys() - TESTED_ELSEWHERE))
def test_it_runs_at_its_smallest_size(script):
    assert run(script, *SMALLEST[script])


def test_the_toolkits_training_has_the_loss_of_full_logits(tmp_path):
    """The benchmark compares speeds, so both ways must do the same mathematics on the same batches."""
    printed = run("train_throughput.py", *SMALLEST["train_throughput.py"], "--json", str(tmp_path / "runs.json"))
    runs = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))["runs"]
    full, before, ours = (runs[way][0] for way in ("full-logits", "packed", "pkt"))
    assert ours["losses"] == pytest.approx(full["losses"], abs=1e-4)
    assert ours["losses"] == pytest.approx(before["losses"], abs=1e-4)
    assert ours["examples_per_step"] == full["examples_per_step"] == before["examples_per_step"] == 4
    assert "| pkt divided by | examples/s |" in printed
