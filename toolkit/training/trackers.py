"""Trackers that plot the losses: the Trainer's own callbacks, given losses and settings and nothing of this machine.

They would record the Trainer's arguments and the model's configuration, which hold paths; weights, checkpoints, code,
git remotes, host names and the command line stay here too. A tracker's own environment variables still choose where it
records.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import EnvironmentLacks, library_errors
from toolkit.core.recipe import Recipe
from toolkit.training.checkpoints import IDENTITY

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

PROJECT = "pkt"
# Trackers whose package has another name.
PACKAGES = {"comet": "comet_ml"}
# How to record on this machine alone, for those that otherwise want an account.
OFFLINE = {"wandb": "WANDB_MODE=offline", "comet": "COMET_START_ONLINE=false", "swanlab": "SWANLAB_MODE=offline"}
# By these the callbacks upload weights and checkpoints, and want the model for it.
UPLOADS = ("WANDB_LOG_MODEL", "WANDB_WATCH", "COMET_LOG_ASSETS", "HF_MLFLOW_LOG_ARTIFACTS", "SWANLAB_LOG_MODEL")


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A training as a tracker knows it.

    Attributes:
        name: For people: the recipe and the folder.
        id: The same for a run that continues, another for one that begins anew or elsewhere.
        settings: What decides the training, by dotted key.
        folder: Of the checkpoints.
    """

    name: str
    id: str
    settings: dict[str, Any]
    folder: Path


def tracked_run(recipe: Recipe, folder: Path) -> TrackedRun:
    """The run whose checkpoints are kept in a folder that was prepared for them."""
    place = folder.resolve()
    begun = (place / IDENTITY).stat().st_mtime_ns if (place / IDENTITY).is_file() else 0
    unique = hashlib.sha256(f"{place}\n{begun}".encode()).hexdigest()[:32]
    # `adapter-checkpoints` beside an adapter, `checkpoints` in a run folder.
    label = place.name.removesuffix("-checkpoints") if place.name.endswith("-checkpoints") else place.parent.name
    given = recipe.model_dump(mode="json", exclude_none=True)
    settings = {"recipe": recipe.name} | {key: given[key] for key in ("base", "base_revision", "seed") if key in given}
    settings |= {f"{part}.{key}": value for part in ("lora", "training") for key, value in given[part].items()}
    return TrackedRun(f"{recipe.name}-{label}-{unique[:6]}", unique, settings, folder)


def check_installed(track: Sequence[str]) -> None:
    """Raise EnvironmentLacks for a tracker whose package is not there."""
    lacking = [name for name in (PACKAGES.get(name, name) for name in track) if find_spec(name) is None]
    if lacking:
        raise EnvironmentLacks(
            f"`training.track` needs the package {lacking[0]}, which is not installed.",
            f"pip install {' '.join(lacking)}",
        )


def trackers(track: Sequence[str], run: TrackedRun) -> list[TrainerCallback]:
    """A callback for each tracker, which starts its run when the training begins.

    It raises EnvironmentLacks where the tracker cannot: without a login, it is not asked for in the terminal.
    """
    from transformers import TrainerCallback, integrations

    class Tracked(TrainerCallback):  # type: ignore[misc]
        """Passes on what a tracker may know to the Trainer's callback for it."""

        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
        ) -> None:
            with _starting(self.name):
                callback, start = TRACKERS[self.name]
                self.finish, given = start(run)
                self.callback = getattr(integrations, callback)(*given)
                self.callback.on_train_begin(_public(args, run), state, control)

        def on_log(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any, **_: Any
        ) -> None:
            with library_errors(f"The tracker {self.name} failed", "Run it again to continue."):
                self.callback.on_log(_public(args, run), state, control, logs=dict(logs))

        def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
            with library_errors(f"The tracker {self.name} failed", "Run it again to continue."):
                self.callback.on_train_end(_public(args, run), state, control)
                self.finish()

    return [Tracked(name) for name in track]


def where_losses_are_drawn(track: Sequence[str], checkpoints: Path) -> str:
    """A sentence on how to look at the losses while training."""
    commands = {
        "trackio": "trackio show",
        "tensorboard": f"tensorboard --logdir {_tensorboard_folder(checkpoints)}",
        "mlflow": "mlflow ui",
    }
    return (
        f"To see the losses while it trains: {', '.join(commands.get(name, f'the page of {name}') for name in track)}."
    )


def _tensorboard_folder(checkpoints: Path) -> Path:
    """TensorBoard's files lie beside the folder of checkpoints, which is removed at the end."""
    return checkpoints.with_name(f"{checkpoints.name.removesuffix('-checkpoints')}-tensorboard")


@contextmanager
def _starting(name: str) -> Iterator[None]:
    """Translate a tracker's errors while it starts; it asks no terminal, uploads no weights and leaves Ctrl-C to us."""
    kept, stdin = {key: os.environ.pop(key) for key in UPLOADS if key in os.environ}, sys.stdin
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    alone = f", set {OFFLINE[name]} in the environment to record on this machine alone" if name in OFFLINE else ""
    # The training seeded it, and comet draws the names of its archives: a run that continues would overwrite its first.
    drawn = random.getstate()
    random.seed()
    try:
        with Path(os.devnull).open(encoding="utf-8") as sys.stdin:
            remedy = f"Check its login and the network{alone}, or leave `training.track` out."
            with library_errors(f"The tracker {name} cannot start", remedy, EnvironmentLacks):
                yield
    finally:
        random.setstate(drawn)
        sys.stdin = stdin
        os.environ |= kept
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _public(args: TrainingArguments, run: TrackedRun) -> TrainingArguments:
    """The Trainer's arguments as the trackers record them: the recipe's settings, and no folder."""
    public = copy.copy(args)
    public.output_dir, public.run_name, public.project = ".", run.name, PROJECT
    public.to_dict = lambda: dict(run.settings)
    return public


Started = tuple[Callable[[], object], tuple[object, ...]]
"""What ends a tracker's run, and the arguments of the callback."""


def _tensorboard(run: TrackedRun) -> Started:
    from torch.utils.tensorboard import SummaryWriter

    return (lambda: None), (SummaryWriter(str(_tensorboard_folder(run.folder))),)


def _wandb(run: TrackedRun) -> Started:
    import wandb

    quiet = wandb.Settings(
        host=PROJECT,
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    wandb.init(project=project, name=run.name, id=run.id, resume="allow", settings=quiet)
    return wandb.finish, ()


def _mlflow(run: TrackedRun) -> Started:
    import mlflow

    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    before = mlflow.search_runs(filter_string=f"tags.`pkt.run` = '{run.id}'", output_format="list")
    # In place of the user's name and the path of the program.
    tags = {"pkt.run": run.id, "mlflow.user": PROJECT, "mlflow.source.name": PROJECT}
    mlflow.start_run(run_id=before[0].info.run_id if before else None, run_name=run.name, tags=tags)
    return mlflow.end_run, ()


def _comet(run: TrackedRun) -> Started:
    import comet_ml

    off = ("log_code", "log_graph", "parse_args", "log_git_metadata", "log_git_patch", "log_env_details")
    config = comet_ml.ExperimentConfig(name=run.name, auto_output_logging=False, **dict.fromkeys(off, False))
    project = os.environ.get("COMET_PROJECT_NAME", PROJECT)
    experiment = comet_ml.start(
        project_name=project, experiment_key=run.id, mode="get_or_create", experiment_config=config
    )
    return experiment.end, ()


def _swanlab(run: TrackedRun) -> Started:
    import swanlab

    probes = dict.fromkeys(("hardware", "runtime", "requirements", "conda", "git", "swanlab", "monitor"), False)
    quiet = swanlab.Settings(probe=probes, terminal={"proxy_type": "none"})
    project = os.environ.get("SWANLAB_PROJECT", PROJECT)
    swanlab.init(project=project, name=run.name, id=run.id, resume="allow", settings=quiet)
    return swanlab.finish, ()


# The Trainer's callback for each tracker, and what starts its run.
TRACKERS: dict[str, tuple[str, Callable[[TrackedRun], Started]]] = {
    "trackio": ("TrackioCallback", lambda _: ((lambda: None), ())),
    "tensorboard": ("TensorBoardCallback", _tensorboard),
    "wandb": ("WandbCallback", _wandb),
    "mlflow": ("MLflowCallback", _mlflow),
    "comet": ("CometCallback", _comet),
    "swanlab": ("SwanLabCallback", _swanlab),
}
