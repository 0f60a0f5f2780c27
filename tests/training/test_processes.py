"""Two processes train the same adapter as one, to the byte, and what ends one of them is said once."""

import os
import re
import subprocess
import sys
import traceback
import warnings

import psutil
import pytest
from torch.distributed import TCPStore

from support import paths
from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core.errors import InputError, ToolkitError
from toolkit.core.folder import read_json
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.recipe import option_name
from toolkit.training import processes, train

# All that makes a step more than one sum: three losses, proxies, dropout, and rows seen anew.
SETTINGS = {
    "training__way_back": 0.3,
    "training__contrast": 0.3,
    "training__augmentation": 0.5,
    "training__log_every": 10,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("processes") / "dataset").path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset, small_base):
    """Bytes of the adapter that one process trained at one go, by how many examples it read at once."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.model.base.tiny_base_folder", lambda: small_base)
        for size in (1, 2):
            out = tmp_path_factory.mktemp("whole") / "adapter"
            train.train(dataset, out, recipe(TINY_BASE_ID, **SETTINGS, training__micro_batch_size=size))
            made[size] = adapter_bytes(out)
    return made


def together(number, run):
    """Fork processes that know one another and call `run` with their rank; returns their exit codes and last words."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    known = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_ADDR": store.host, "MASTER_PORT": store.port}
    children = []
    for rank in range(number):
        reads, writes = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            known |= {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_USE_AGENT_STORE": True}
            os.environ.update({name: str(value) for name, value in known.items()})
            processes.STARTED_BY = os.getppid()
            code, said = 0, ""
            try:
                run(rank)
            except ToolkitError as error:
                code, said = error.exit_code, str(error)
            except BaseException:  # noqa: BLE001 (a child must not go on as a test)
                code, said = 70, traceback.format_exc()
            os.write(writes, said.encode())
            os._exit(code)
        os.close(writes)
        children.append((child, reads))
    ends = []
    for child, reads in children:
        with os.fdopen(reads, encoding="utf-8") as words:
            said = words.read()
        ends.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said))
    return ends


@pytest.mark.parametrize(("number", "size"), [(2, 2), (3, 1)])
def test_several_processes_train_the_adapter_of_one_to_the_byte(tmp_path, dataset, use_small_base, whole, number, size):
    chosen = recipe(TINY_BASE_ID, **SETTINGS, training__micro_batch_size=size)
    ends = together(number, lambda _: train.train(dataset, tmp_path / "adapter", chosen))
    assert ends == [(0, "")] * number
    assert adapter_bytes(tmp_path / "adapter") == whole[size]
    assert read_json(tmp_path / "adapter" / "manifest.json")["processes"] == number
    assert not (tmp_path / "adapter-checkpoints").exists()


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, dataset, use_small_base, whole, first, then):
    chosen = recipe(TINY_BASE_ID, **SETTINGS)

    def stopped(rank):
        if rank == first - 1:
            steps = iter(range(1, 9))
            # One of them alone finds that it shall stop.
            processes.left_alone = lambda: next(steps) == 5
        train.train(dataset, tmp_path / "adapter", chosen)

    said = "Stopped at step 5. Run it again, without `restart`, to continue."
    assert together(first, stopped) == [(130, said)] * first
    assert together(then, lambda _: train.train(dataset, tmp_path / "adapter", chosen)) == [(0, "")] * then
    assert adapter_bytes(tmp_path / "adapter") == whole[2]


def test_an_error_of_one_is_raised_in_all_and_says_whose_it_is():
    def run(rank):
        with processes.joined():
            processes.at_once(lambda: fail() if rank == 1 else None)

    def fail():
        raise InputError("Row 3 is empty.", "Fill it.")

    assert together(2, run) == [(2, "Process 1 of 2: Row 3 is empty. Fill it.")] * 2


def test_processes_that_would_not_train_the_same_are_refused():
    def run(rank):
        with processes.joined():
            processes.check_same({"dataset": "a", "first step": 50 * rank})

    said = (
        "Process 1 of 2 has another first step than the first: 50, not 0. Give all machines the same versions, files "
    )
    assert together(2, run) == [(2, f"{said}and folders.")] * 2


def test_more_processes_than_examples_in_a_step_are_refused(tmp_path, dataset, use_small_base):
    chosen = recipe(TINY_BASE_ID, training__batch_size=1, training__micro_batch_size=1)
    ends = together(2, lambda _: train.train(dataset, tmp_path / "adapter", chosen))
    assert (
        ends == [(2, "2 processes cannot share steps of 1 examples. Start fewer, or raise `training.batch_size`.")] * 2
    )


@pytest.fixture
def pkt(tmp_path, dataset, small_base):
    """`pkt train` in two processes with the small base; what `happens` in a process at the end of a step is code."""

    def run(happens="pass", data=dataset, *more):
        (tmp_path / "sitecustomize.py").write_text(
            f"""
import os, signal
from pathlib import Path
from toolkit.core.errors import InputError
from toolkit.model import base
from toolkit.training import progress
base.tiny_base_folder = lambda: Path({str(small_base)!r})
report = progress.TrainingState.progress
def at_step(self, state):
    step, rank = state.global_step, int(os.environ["RANK"])
    {happens}
    return report(self, state)
progress.TrainingState.progress = at_step
"""
        )
        chosen = recipe(TINY_BASE_ID, **SETTINGS).model_dump()
        given = {key: chosen[key.partition(".")[0]][key.partition(".")[2]] for key in GIVEN}
        options = [part for key, value in given.items() for part in (option_name(key), str(value))]
        command = ["train", str(data), str(tmp_path / "adapter"), *options, "--processes", "2", *more]
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{paths.ROOT}"}
        done = subprocess.run(
            [sys.executable, "-m", "toolkit", *command], capture_output=True, text=True, check=False, env=environment
        )
        left = [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in (each.info["cmdline"] or ())]
        assert not left, left
        lines = [line for line in done.stderr.splitlines() if not line.startswith("  step ")]
        return done.returncode, lines

    return run


GIVEN = [
    *("training.max_steps", "training.batch_size", "training.micro_batch_size", "training.save_every"),
    *("training.warmup_steps", "training.augmentation", "training.contrast", "training.way_back"),
    *("lora.r", "lora.dropout"),
]


def test_whatever_ends_one_process_ends_all_with_one_line_and_the_same_command_goes_on(
    tmp_path, dataset, use_small_base, whole, pkt
):
    code, lines = pkt("(rank, step) == (0, 4) and os.kill(os.getppid(), signal.SIGINT)")
    assert (code, lines[0]) == (
        130,
        f"Error: Stopped at step {step_of(lines[0])}. Run it again, without --restart, to continue.",
    )
    assert lines[1:] == [] or lines[1].lstrip().startswith(("pkt", "python"))
    killed = "rank == 1 and step == 7 and os.kill(os.getpid(), signal.SIGKILL)"
    code, lines = pkt(killed)
    said = "Error: Process 1 of 2 ended by SIGKILL, as the system does when memory runs out, and the others with it. "
    assert (code, lines[-1]) == (1, f"{said}The same command, without --restart, continues from the last checkpoint.")
    assert [line.startswith("Continuing from step ") for line in lines] == [True, False]
    train.train(dataset, tmp_path / "adapter", recipe(TINY_BASE_ID, **SETTINGS))
    assert adapter_bytes(tmp_path / "adapter") == whole[2]


def step_of(line):
    return line.partition("step ")[2].partition(".")[0]


def test_what_is_wrong_with_the_dataset_is_said_once(tmp_path, pkt):
    code, lines = pkt(data=tmp_path / "nowhere")
    assert code == 2
    assert len(lines) == 1


@pytest.mark.parametrize("held", ["nf4", "none"])
def test_a_base_that_three_processes_divide_trains_the_adapter_of_one_to_the_byte(
    tmp_path, dataset, use_small_base, held
):
    chosen = recipe(TINY_BASE_ID, **SETTINGS, training__quantization=held, training__micro_batch_size=1)
    train.train(dataset, tmp_path / "whole", chosen)

    def run(rank):
        notes = train.train(dataset, tmp_path / "divided", chosen, shard=True).notes
        if rank == 0:
            raise InputError(notes[0], "")

    (code, said), *others = together(3, run)
    assert (code, others) == (2, [(0, "")] * 2)
    holds, unit, whole, same = re.search(r"holds ([\d.]+) (\w+) of the base's ([\d.]+) (\w+)\.", said).groups()
    assert unit == same
    assert float(holds) == pytest.approx(float(whole) / 3, rel=0.1)
    assert adapter_bytes(tmp_path / "divided") == adapter_bytes(tmp_path / "whole")


def test_one_process_alone_cannot_divide_a_base(tmp_path, dataset):
    with pytest.raises(InputError, match="There is one process"):
        train.train(dataset, tmp_path / "adapter", recipe(TINY_BASE_ID), shard=True)
