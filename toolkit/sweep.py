"""Several recipes and values in; a run of each and, chosen by its figures of `validation`, the best of them out.

Each trial is a process of its own, which trains and measures on `validation`. `test` and `unseen` are measured for the
best alone, which alone is published; its card says how many it was chosen among.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from toolkit import cards
from toolkit.core.errors import InputError, after_saying
from toolkit.core.folder import holds_nothing, json_hash, lock, read_json, read_jsonl, read_manifest, write_json
from toolkit.core.layout import TRAINING_LOG
from toolkit.core.recipe import PublishSettings, Recipe, load_recipe, recipe_names
from toolkit.core.results import Score
from toolkit.core.workers import EngineName, spread
from toolkit.evaluation.evaluate import validation_scores
from toolkit.run import (
    HUB,
    RunCallbacks,
    RunResult,
    Steps,
    check_task,
    evaluate_and_publish,
    hub_of,
    make_adapter,
    make_dataset,
    measured_by,
)
from toolkit.training.processes import threads_of_each, visible_gpus
from toolkit.training.progress import TrainingProgress, last_losses
from toolkit.training.train import Interrupted

SWEEP, PLOT, LOG, SCORES = "sweep.json", "sweep.png", "run.log", "validation_scores.json"
SILENT = RunCallbacks()
# The command line, as a process of its own.
PROGRAM = (sys.executable, "-m", "toolkit")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: Of its folder, made of the settings that tell it from the others.
        recipe: All settings.
        scores: Of `validation`, as `validation_scores` gives them; None before it ran, and where it failed.
        validation_loss: Of its adapter, in nats a token.
        error: Why it failed, in a line.
    """

    name: str
    recipe: Recipe
    scores: dict[str, Any] | None = None
    validation_loss: float | None = None
    error: str | None = None

    @property
    def score(self) -> Score | None:
        """What the best is chosen by: the mean reciprocal rank, finer than top-1 and of one meaning for all bases."""
        return Score.model_validate(self.scores["mrr"]) if self.scores else None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What became of a sweep.

    Attributes:
        out: Its folder.
        tried: How many trials it had, those of earlier calls with other values included.
        trials: Those of this call, the best first and the failed ones last.
        best: What the best one came to on `test` and `unseen`, and its publication; None where all failed.
    """

    out: Path
    tried: int
    trials: list[Trial]
    best: RunResult | None


def plan_trials(recipes: Sequence[str], settings: Mapping[str, Sequence[object]]) -> list[Trial]:
    """Every recipe with every combination of values.

    Args:
        recipes: Names of shipped recipes, TOML files, and folders, whose TOML files are meant.
        settings: Values by dotted key, such as `training.learning_rate`; several of one key are tried in turn.

    Raises:
        InputError: A recipe or a value is wrong, or two trials would have one name.
    """
    files: list[str] = []
    for source in recipes:
        # What ships comes before a folder that happens to be called like it.
        is_folder = source not in recipe_names() and Path(source).is_dir()
        files += sorted(map(str, Path(source).glob("*.toml"))) if is_folder else [source]
    varied = [key for key, values in settings.items() if len(values) > 1]
    last = [key.rpartition(".")[2] for key in varied]
    trials: dict[str, Trial] = {}
    for file, values in itertools.product(files, itertools.product(*settings.values())):
        given = dict(zip(settings, values, strict=True))
        told = {key if last.count(end) > 1 else end: given[key] for key, end in zip(varied, last, strict=True)}
        told = ({"recipe": Path(file).stem} if len(files) > 1 else {}) | told
        name = ",".join(re.sub(r"[^\w.+=-]+", "-", f"{key}={value}").strip("-") for key, value in told.items())
        if name in trials:
            raise InputError(f"Two runs of the sweep are called {name}.", "Give each recipe and value once.")
        trials[name] = Trial(name, load_recipe(file, given))
        check_task(trials[name].recipe)
    if not trials:
        raise InputError(f"{', '.join(recipes)} holds no recipe, a file that ends in .toml.", "Choose another folder.")
    return list(trials.values())


def run_sweep(
    trials: Sequence[Trial],
    out: str | Path,
    callbacks: RunCallbacks = SILENT,
    *,
    workers: int = 1,
    engine: EngineName = "local",
    restart: bool = False,
) -> SweepResult:
    """Run each trial in a folder of its own in `out`, then evaluate and publish the best.

    Trials that agree on the dataset share one. The best has the highest mean reciprocal rank on `validation`; of equals
    it is the one of the lowest validation loss, then the first. It is published only where no trial failed. The same
    call skips what is finished, and runs again what failed or was stopped.

    Args:
        trials: What `plan_trials` gives.
        out: A run folder for each trial, `sweep.json`, `sweep.png` and, for a local Hub, `hub/`.
        callbacks: Called while it works; `count` with the steps of each training.
        workers: How many trials run at once on this machine, whose cores and GPUs they share out among them.
        engine: `ray` has workers of a Ray cluster run them, as many as `spread` finds room for; all see `out`.
        restart: As for `run_pipeline`.

    Raises:
        InputError: The recipes cannot be compared or published, or `out` holds something else.
        Interrupted: Ctrl-C came; the same call continues.
        ToolkitError: A dataset cannot be built, or the best cannot be evaluated or published.
    """
    out, recipes = Path(out), [trial.recipe for trial in trials]
    if not all(recipe.dataset.validation_size for recipe in recipes):
        raise InputError("A sweep chooses by the rows of `validation`.", "Raise `dataset.validation_size`.")
    if len({recipe.publish.local_hub for recipe in recipes}) > 1:
        raise InputError("Some of the recipes publish to a local Hub, others do not.", "Set `publish.local_hub`.")
    earlier = _begin(out, trials)
    tried = len(trials) + len(earlier)
    with hub_of(recipes[0], out):
        left = _make_datasets(trials, out, callbacks, restart=restart)
        try:
            if engine == "ray" and left:
                errors = dict(spread(partial(partial, _run_as_task, out.absolute(), restart), left, engine))
            else:
                errors = asyncio.run(_run_all(left, out, workers, callbacks, restart=restart))
        except KeyboardInterrupt as error:
            raise Interrupted("The sweep was stopped.", "Run it again, without `restart`, to continue.") from error
        # Stable: of equals the first one leads.
        done = sorted((_finished(trial, out / trial.name, errors.get(trial.name)) for trial in trials), key=_order)
        scores = {trial.name: trial.score for trial in done}
        rows = done[0].score.n if done[0].score else 0
        cards.sweep_plot(scores, f"mean reciprocal rank on {rows:,} rows of validation; {tried:,} tried", out / PLOT)
        runs = {
            trial.name: {key: getattr(trial, key) for key in ("scores", "validation_loss", "error")} for trial in done
        }
        known = {"chosen_by": "mrr on validation", "tried": tried, "runs": runs, "earlier": earlier}
        write_json(out / SWEEP, known)
        best = _evaluate(done, out, tried, callbacks, restart=restart) if scores[done[0].name] else None
    return SweepResult(out, tried, done, best)


def _begin(out: Path, trials: Sequence[Trial]) -> list[str]:
    """Mark the folder of a sweep; the names of the trials of earlier calls that this one lacks."""
    out.mkdir(parents=True, exist_ok=True)
    before = read_json(out / SWEEP) if (out / SWEEP).is_file() else {"runs": {}, "earlier": []}
    ours = isinstance(before, dict) and "earlier" in before
    if not ours or not ((out / SWEEP).is_file() or holds_nothing(out, HUB)):
        raise InputError(f"{out} is not empty and holds no sweep.", "Choose another output folder.")
    now = {trial.name: None for trial in trials}
    earlier = [name for name in (*before["runs"], *before["earlier"]) if name not in now]
    write_json(out / SWEEP, {"runs": now, "earlier": earlier})
    return earlier


def _make_datasets(trials: Sequence[Trial], out: Path, callbacks: RunCallbacks, *, restart: bool) -> list[Trial]:
    """The step Dataset of every trial, built once for those that agree on it; the trials that are left to run."""
    built: dict[str, Path] = {}
    left = []
    for trial in trials:
        key = json_hash(trial.recipe.model_dump(include={"dataset", "seed"}))
        steps = Steps(out / trial.name, SILENT.step if key in built else callbacks.step)
        with after_saying(f"{trial.name}:"):
            there = make_dataset(trial.recipe, steps, callbacks.count, like=built.get(key), restart=restart)
        built.setdefault(key, steps.out / "dataset")
        if not (there and steps.unchanged("Validation", measured_by(trial.recipe, steps.out), steps.out / SCORES)):
            left.append(trial)
    if len(built) > 1:
        callbacks.note(f"There are {len(built)} datasets: not all figures of validation are of the same rows.")
    return left


async def _run_all(
    trials: Sequence[Trial], out: Path, workers: int, callbacks: RunCallbacks, *, restart: bool
) -> dict[str, str | None]:
    """Run trials, so many at once; what went wrong with each, None where nothing did."""
    free: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    for environment in _environments(workers):
        free.put_nowait(environment)

    async def one(trial: Trial) -> str | None:
        environment = await free.get()
        try:
            error = await _run_apart(trial, out / trial.name, environment, callbacks, restart=restart)
        finally:
            free.put_nowait(environment)
        callbacks.note(f"{trial.name}: {error or 'trained, and measured on validation.'}")
        return error

    # With exceptions as results, it waits for all of them, when it is cancelled too.
    ended = await asyncio.gather(*map(one, trials), return_exceptions=True)
    errors: dict[str, str | None] = {}
    for trial, error in zip(trials, ended, strict=True):
        if isinstance(error, BaseException):
            raise error
        errors[trial.name] = error
    return errors


def _environments(workers: int) -> list[dict[str, str]]:
    """What each of several workers has to itself: a share of the cores and, where there are any, a GPU."""
    if workers == 1:
        return [{}]
    own = {"OMP_NUM_THREADS": threads_of_each(workers)}
    gpus = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in visible_gpus()] or [{}]
    return [own | gpu for gpu in itertools.islice(itertools.cycle(gpus), workers)]


async def _run_apart(
    trial: Trial, out: Path, environment: Mapping[str, str], callbacks: RunCallbacks, *, restart: bool
) -> str | None:
    """Run a trial in a process of its own; what went wrong.

    The process ends when its standard input does, so also where this one is killed. It has a session of its own, as
    a terminal sends Ctrl-C to all of one, and a training that gets it twice writes no checkpoint.
    """
    job = {"recipe": trial.recipe.model_dump(mode="json"), "restart": restart}
    with (out / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "run", "-", str(out), "--trial"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=os.environ | environment,
            start_new_session=True,
        )
        given, said = process.stdin, process.stdout
        try:
            if given and said:
                given.write(f"{json.dumps(job)}\n".encode())
                async for line in said:
                    callbacks.count(trial.name, *map(int, line.split()))
        finally:
            if given:
                given.close()
            code = await process.wait()
    if code < 0:
        return f"The process was killed ({signal.strsignal(-code)}), as it is where memory runs out."
    lines = (out / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    errors = [line.removeprefix("Error: ") for line in lines if line.startswith("Error: ")]
    return None if code == 0 else errors[-1] if errors else f"It ended with exit code {code}; {out / LOG} says more."


def _run_as_task(out: Path, restart: bool, trial: Trial) -> tuple[str, str | None]:
    """A trial's name, and what went wrong."""
    return trial.name, asyncio.run(_run_apart(trial, out / trial.name, {}, SILENT, restart=restart))


def run_trial(out: Path, callbacks: RunCallbacks) -> None:
    """Train and measure a trial, in the process that `run_sweep` starts for it.

    Standard input has the trial, and ends when this process is to end; steps go to standard output.
    """
    job = json.loads(sys.stdin.buffer.readline())
    # A process whose starter was killed may be at its last step: it has this log too.
    lock(sys.stderr.fileno())

    def end_with_input() -> None:
        os.read(sys.stdin.fileno(), 1)
        # Workers of Ray block SIGINT, and what they start inherits that.
        os.kill(os.getpid(), signal.SIGTERM)

    def report(progress: TrainingProgress) -> None:
        callbacks.training(progress)
        # Who read it may have been killed: training then ends with a checkpoint, as its input does.
        with suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), f"{progress.step} {progress.steps}\n".encode())

    Thread(target=end_with_input, daemon=True).start()
    recipe, restart, steps = Recipe.model_validate(job["recipe"]), job["restart"], Steps(out, callbacks.step)
    make_adapter(recipe, steps, replace(callbacks, training=report), restart=restart)
    inputs = measured_by(recipe, out)
    if steps.begin("Validation", inputs, out / SCORES):
        measured = (out / "adapter", out / "dataset", recipe)
        write_json(out / SCORES, validation_scores(*measured, restart=restart, progress=callbacks.count))
        steps.done("Validation", inputs, out / SCORES)


def _finished(trial: Trial, out: Path, error: str | None) -> Trial:
    """A trial with what became of it."""
    if error is not None:
        return replace(trial, error=error)
    best = read_manifest(out / "adapter", "adapter").get("best_step")
    _, loss = last_losses(read_jsonl(out / "adapter" / TRAINING_LOG), best)
    return replace(trial, scores=read_json(out / SCORES), validation_loss=loss)


def _order(trial: Trial) -> tuple[bool, float, float]:
    reached = trial.score.value if trial.score else 0.0
    return trial.error is not None, -reached, math.inf if trial.validation_loss is None else trial.validation_loss


def _evaluate(done: Sequence[Trial], out: Path, tried: int, callbacks: RunCallbacks, *, restart: bool) -> RunResult:
    """The last steps of the best trial, by a recipe that says what it was chosen by: its card repeats it."""
    recipe = done[0].recipe
    chosen = ["validation", *(on for on in recipe.evaluation.selected_on or () if on != "validation")]
    settings = recipe.evaluation.model_copy(update={"selected_on": chosen, "selected_among": tried})
    publish = PublishSettings() if done[-1].error else recipe.publish
    recipe = recipe.model_copy(update={"evaluation": settings, "publish": publish})
    callbacks.note(f"The best of {tried:,} on validation is {done[0].name}:")
    return evaluate_and_publish(recipe, Steps(out / done[0].name, callbacks.step), callbacks, restart=restart)
