"""What the command line does to its own process: quiet libraries, threads that sleep, garbage looked for less often."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click

from toolkit.core.errors import InputError
from toolkit.training.processes import ProcessLost, started

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "critical",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    # Where comet is installed, importing transformers would have it record what mlflow and TensorBoard are given.
    "COMET_DISABLE_AUTO_LOGGING": "1",
}
ANSWER = ("name", "identify")
COMPUTE = ("run", "train", "evaluate", "serve")
# Cores that other programs keep busy, from which on threads that spin cost more than they gain.
BUSY_CORES = 0.33


def prepare(command: str, *, verbose: bool) -> None:
    """Silence the libraries unless `verbose`, and let threads that wait for each other sleep where that is faster.

    OpenMP's threads spin. A small model is a thousand short waits a second, and beside other busy programs each lasts
    until the system takes the core from the one that spins: on two busy cores the same names took 1.4 s instead of
    20 s, and a step of the demo's training 0.7 to 4 s instead of 2.3 to 29 s. On idle cores such a step takes twice as
    long asleep, so a training looks for a tenth of a second whether others are busy.
    """
    if not verbose:
        silence()
    # Modules are many objects and no garbage: looking for it after each 700 is a fifth of the time of imports.
    gc.set_threshold(50_000)
    if "OMP_WAIT_POLICY" not in os.environ and (
        command in ANSWER or (command in COMPUTE and busy_cores() > BUSY_CORES)
    ):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def silence() -> None:
    """Show errors of the libraries only, not warnings that a user can do nothing about."""
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    for name in ("bitsandbytes", "huggingface_hub", "torch", "transformers", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs an error of its own above ours when a file is damaged.
    logging.getLogger("datasets").setLevel(logging.CRITICAL)


def show_log(say: Callable[[str], None]) -> None:
    """Say what the toolkit logs: what takes long, such as a download."""
    handler = logging.Handler()
    handler.emit = lambda record: say(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("toolkit")
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]


def check_alone(command: str) -> None:
    """Check that a command was not started in several processes that cannot share it; silence all but the first.

    Raises:
        InputError: All of them would write the same.
    """
    if started() == 1:
        return
    if command != "train":
        raise InputError(
            f"`pkt {command}` was started in {started()} processes, which would write the same files.",
            "Start it once; `pkt train` is what several share.",
        )
    if _is_another():
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (until the process ends)


def show_error(text: str, error: BaseException) -> None:
    """Print an error, unless whoever started several processes will say it, of which this is not the first."""
    file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not file or not (_is_another() or isinstance(error, ProcessLost)):
        click.echo(text, err=not _is_another(), file=sys.__stderr__ if _is_another() else None)
    else:
        # What torch.distributed.elastic reads.
        message = {"message": text.removeprefix("Error: "), "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(file).write_text(json.dumps({"message": message}), encoding="utf-8")


def _is_another() -> bool:
    return started() > 1 and os.environ["RANK"] != "0"


def busy_cores() -> float:
    """How many of the machine's cores are at work while this process waits."""
    import psutil

    return float(psutil.cpu_percent(interval=0.1)) / 100 * (os.cpu_count() or 1)
