"""The whole pipeline on one page: build a dataset, train an adapter, evaluate it, publish both and verify them.

A step is skipped when nothing that it reads has changed since it was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.core import Note, Progress, ignore
from toolkit.core.errors import CheckFailed, InputError
from toolkit.core.folder import (
    copy_folder,
    holds_nothing,
    json_hash,
    read_json,
    read_jsonl,
    recover,
    sha256_file,
    unwritable,
    write_json,
)
from toolkit.core.layout import ADAPTER_WEIGHTS, EVALUATION, MANIFEST, SAMPLES
from toolkit.core.recipe import Recipe, load_recipe
from toolkit.data.build import build_dataset
from toolkit.data.dataset import locate_dataset
from toolkit.data.sources import read_records
from toolkit.evaluation.evaluate import evaluate
from toolkit.hub.base import local_hub
from toolkit.hub.publish import Published, PublishOptions, publish, push_dataset
from toolkit.hub.verify import Verification, verify_or_raise
from toolkit.model.base import base_hash, locate_base
from toolkit.training.progress import TrainingProgress
from toolkit.training.train import deciding_settings, finished, train

STATE = "pipeline.json"
# The folder of a local Hub in a run folder. A base may be imported into it before the run.
HUB = "hub"
# Its name in 0.1.0.
OLD_STATE = "run.json"


@dataclass(frozen=True, slots=True)
class RunCallbacks:
    """What a run calls while it works.

    Attributes:
        step: Called when a step starts, with its title and whether it is skipped.
        count: Called with the progress of building and evaluating.
        training: Called after every optimiser step.
        note: Called with each warning.
    """

    step: Callable[[str, bool], None] = ignore
    count: Progress = ignore
    training: Callable[[TrainingProgress], None] = ignore
    note: Note = ignore


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where everything lies, and what the evaluation found."""

    out: Path
    evaluation: dict[str, Any]
    samples: list[dict[str, Any]]
    published: Published | None
    verified: Verification | None


def run_pipeline(
    recipe: Recipe | str, out: str | Path, callbacks: RunCallbacks = RunCallbacks(), *, restart: bool = False
) -> RunResult:
    """Build, train, evaluate and, when the recipe says where, publish and verify.

    Args:
        recipe: All settings, or the name of a recipe; `recipe.publish` says whether and where to publish.
        out: The run folder: `dataset/`, `adapter/`, `checkpoints/` while training, `pipeline.json`, for a local Hub
            also `hub/` and `hub-cache/`.
        callbacks: Called while it works.
        restart: Begin anew with a step whose inputs changed: discard what of it was interrupted, and replace its
            finished adapter or evaluation. Unchanged steps are skipped all the same.

    Raises:
        ToolkitError: Whatever stops a step; what was finished before is kept, and the same call goes on from there.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    check_task(recipe)
    steps = Steps(Path(out), callbacks.step)
    # The Hub comes first: its clients read which one to talk to when they are imported, and training imports them.
    with hub_of(recipe, steps.out):
        make_dataset(recipe, steps, callbacks.count, restart=restart)
        make_adapter(recipe, steps, callbacks, restart=restart)
        return evaluate_and_publish(recipe, steps, callbacks, restart=restart)


def check_task(recipe: Recipe) -> None:
    """Raise InputError for a recipe of an encoder."""
    if recipe.task != "name":
        raise InputError(
            f"The recipe {recipe.name} makes an encoder, and a run an adapter.", "Use `pkt train` and `pkt evaluate`."
        )


def make_dataset(
    recipe: Recipe, steps: Steps, count: Progress, *, like: Path | None = None, restart: bool = False
) -> bool:
    """The step Dataset: built, or a copy of one of the same settings; whether its adapter is there and finished.

    Raises:
        InputError: The adapter in the run folder is of other settings or rows, and not to `restart`.
        CheckFailed: The dataset does not pass validation.
    """
    out, dataset = steps.out, steps.out / "dataset"
    texts = [facts.content_hash for facts, _ in read_records(recipe.dataset)]
    inputs = [recipe.dataset.model_dump(), recipe.seed, texts]
    # Before anything is replaced.
    there = not restart and finished(
        out / "adapter", out / "checkpoints", recipe, **steps.other_dataset(dataset, inputs)
    )
    if steps.begin("Dataset", inputs, dataset):
        if like is not None:
            copy_folder(like, dataset, "dataset")
        elif not build_dataset(dataset, recipe, progress=count).validation["ok"]:
            raise CheckFailed(f"{dataset} does not pass validation.", f"Look at it with `pkt validate {dataset}`.")
        steps.done("Dataset", inputs, dataset)
    return there


def make_adapter(recipe: Recipe, steps: Steps, callbacks: RunCallbacks, *, restart: bool = False) -> None:
    """The step Training, on the dataset that is there."""
    dataset, adapter = steps.out / "dataset", steps.out / "adapter"
    base, weights = locate_base(recipe.base, recipe.base_revision, recipe=recipe), adapter / ADAPTER_WEIGHTS
    inputs = [deciding_settings(recipe), _hash(dataset), base_hash(base)]
    if steps.begin("Training", inputs, weights):
        train(
            dataset,
            adapter,
            recipe,
            checkpoints=steps.out / "checkpoints",
            restart=restart,
            progress=callbacks.training,
            note=callbacks.note,
        )
        steps.done("Training", inputs, weights)


def evaluate_and_publish(recipe: Recipe, steps: Steps, callbacks: RunCallbacks, *, restart: bool = False) -> RunResult:
    """The step Evaluation and, where the recipe says so, Publication and Verification."""
    dataset, adapter = steps.out / "dataset", steps.out / "adapter"
    inputs, evaluation = measured_by(recipe, steps.out), adapter / EVALUATION
    if steps.begin("Evaluation", inputs, evaluation):
        evaluate(adapter, dataset, recipe=recipe, restart=restart, progress=callbacks.count, note=callbacks.note)
        steps.done("Evaluation", inputs, evaluation)
    published, verified = _publish(recipe, dataset, adapter, steps) if recipe.publish.adapter_repo else (None, None)
    return RunResult(steps.out, read_json(evaluation), read_jsonl(adapter / SAMPLES), published, verified)


def measured_by(recipe: Recipe, out: Path) -> list[object]:
    """What decides the figures of a run: settings, adapter and dataset."""
    settings = recipe.model_dump(include={"evaluation", "decoding", "seed"})
    return [settings, _hash(out / "adapter" / ADAPTER_WEIGHTS), _hash(out / "dataset")]


def _publish(recipe: Recipe, dataset: Path, adapter: Path, steps: Steps) -> tuple[Published, Verification | None]:
    """Publish dataset and adapter; a new repository is public once it was verified."""
    steps.announce("Publication", False)
    dataset_repo = recipe.publish.dataset_repo
    # A local Hub has another address in each run, under which nothing is known of an unfinished publication.
    private = False if recipe.publish.local_hub else None
    if dataset_repo:
        push_dataset(dataset, dataset_repo, PublishOptions(private))
    verified: list[Verification] = []

    def verify(repo_id: str, revision: str) -> None:
        if steps.begin("Verification", [repo_id], revision):
            verified.append(verify_or_raise(repo_id, revision))
            steps.done("Verification", [repo_id], revision)

    options = PublishOptions(private, dataset_repo=dataset_repo)
    published = publish(adapter, str(recipe.publish.adapter_repo), options, verify=verify)
    if not verified:
        # It was there already, and perhaps never verified.
        verify(published.repo_id, published.revision)
    return published, verified[0] if verified else None


@contextmanager
def hub_of(recipe: Recipe, out: Path) -> Iterator[None]:
    """The Hub that the recipe publishes to: the chosen one, or a local one in the run folder with the tiny base."""
    if not recipe.publish.local_hub:
        yield
        return
    with local_hub(out / HUB, out / "hub-cache"):
        yield


class Steps:
    """What was done before, in `pipeline.json`: for each step the hash of what it read and of what it wrote."""

    def __init__(self, out: Path, announce: Callable[[str, bool], None] = ignore) -> None:
        self.out, self.file, self.announce = out, out / STATE, announce
        self.hashes: dict[str, dict[str, str]] = {}
        try:
            out.resolve().mkdir(parents=True, exist_ok=True)
            for name in ("dataset", "adapter"):
                recover(out / name)
            if (out / OLD_STATE).is_file() and not self.file.is_file():
                _read_hashes(out / OLD_STATE)
                (out / OLD_STATE).rename(self.file)
            if self.file.is_file():
                self.hashes = _read_hashes(self.file)
            elif (out / "dataset").is_dir() or holds_nothing(out, but=HUB):
                # Written first, so that a run that is killed in its first second is recognised.
                write_json(self.file, self.hashes)
            else:
                raise InputError(f"{out} is not empty and holds no run.", "Choose another output folder.")
        except OSError as error:
            raise unwritable(out, error) from error

    def begin(self, step: str, inputs: Sequence[object], written: Path | str) -> bool:
        """Announce a step; True to do it: its inputs changed, or its output is missing or changed."""
        unchanged = self.unchanged(step, inputs, written)
        self.announce(step, unchanged)
        return not unchanged

    def unchanged(self, step: str, inputs: Sequence[object], written: Path | str) -> bool:
        """Whether a step was done on these inputs, and what it wrote is as it was."""
        return self.hashes.get(step) == {"read": json_hash([__version__, *inputs]), "written": _hash(written)}

    def other_dataset(self, dataset: Path, inputs: Sequence[object]) -> dict[str, str]:
        """A `dataset` that no adapter was trained on, where the inputs are not those of the dataset there."""
        read, there = self.hashes.get("Dataset", {}).get("read"), (dataset / MANIFEST).is_file()
        same = not there or read in (None, json_hash([read_json(dataset / MANIFEST)["toolkit"], *inputs]))
        return {} if same else {"dataset": "another"}

    def done(self, step: str, inputs: Sequence[object], written: Path | str) -> None:
        """Remember a finished step."""
        self.hashes[step] = {"read": json_hash([__version__, *inputs]), "written": str(_hash(written))}
        try:
            write_json(self.file, self.hashes)
        except OSError as error:
            raise unwritable(self.file, error) from error


def _read_hashes(file: Path) -> dict[str, dict[str, str]]:
    hashes = read_json(file)
    if not isinstance(hashes, dict) or not all(
        isinstance(step, dict) and step.keys() == {"read", "written"} for step in hashes.values()
    ):
        raise InputError(f"{file} was not written by `pkt run`.", "Choose another output folder.")
    return hashes


def _hash(written: Path | str) -> str | None:
    """The hash of a dataset folder's rows, of a file, or a revision as it is; None for what is not there."""
    if isinstance(written, str):
        return written
    if written.is_dir():
        return locate_dataset(str(written)).rows_hash()
    return sha256_file(written) if written.is_file() else None
