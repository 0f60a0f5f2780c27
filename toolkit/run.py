"""The whole pipeline on one page: build a dataset, train an adapter, evaluate it, publish both and verify them.

A step is skipped when nothing that it reads has changed since it was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import __version__
from toolkit.core import Note, Progress, ignore
from toolkit.core.errors import CheckFailed, InputError
from toolkit.core.folder import (
    holds_nothing,
    json_hash,
    read_json,
    read_jsonl,
    recover,
    sha256_file,
    unwritable,
    write_json,
)
from toolkit.core.hub_client import read_token, use_hub
from toolkit.core.recipe import Recipe
from toolkit.data import build, sources
from toolkit.data.dataset import LocatedDataset, locate_dataset
from toolkit.evaluation import evaluate
from toolkit.hub import publish, verify
from toolkit.hub.local.serve import kept_token, running_hub
from toolkit.model import base as bases
from toolkit.training import progress, train

STATE = "pipeline.json"
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
    training: Callable[[progress.TrainingProgress], None] = ignore
    note: Note = ignore


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where everything lies, and what the evaluation found."""

    out: Path
    evaluation: dict[str, Any]
    samples: list[dict[str, Any]]
    published: publish.Published | None
    verified: verify.Verification | None


def run_pipeline(
    recipe: Recipe, out: Path, callbacks: RunCallbacks = RunCallbacks(), *, restart: bool = False
) -> RunResult:
    """Build, train, evaluate and, when the recipe says where, publish and verify.

    Args:
        recipe: All settings; `recipe.publish` says whether and where to publish.
        out: The run folder: `dataset/`, `adapter/`, `checkpoints/` while training, `pipeline.json`, for a local
            Hub also `hub/`.
        callbacks: Called while it works.
        restart: Forget an interrupted training.

    Raises:
        ToolkitError: Whatever stops a step; what was finished before is kept, and the same command goes on from there.
    """
    state = State(out)
    dataset, adapter = out / "dataset", out / "adapter"
    published = verified = None
    # The Hub comes first: its clients read which one to talk to when they are imported, and training imports them.
    with _hub(recipe, out):
        _build(recipe, dataset, state, callbacks)
        located = locate_dataset(str(dataset))
        _train(recipe, located, adapter, out / "checkpoints", state, callbacks, restart)
        _evaluate(recipe, located, adapter, state, callbacks)
        if recipe.publish.adapter_repo:
            published, verified = _publish(recipe, dataset, adapter, state, callbacks)
    return RunResult(
        out, read_json(adapter / "evaluation.json"), read_jsonl(adapter / "samples.jsonl"), published, verified
    )


class State:
    """What was done before, in `pipeline.json`: for each step the hash of what it read and of what it wrote."""

    def __init__(self, out: Path) -> None:
        self.file = out / STATE
        self.steps: dict[str, dict[str, str]] = {}
        try:
            out.resolve().mkdir(parents=True, exist_ok=True)
            for name in ("dataset", "adapter"):
                recover(out / name)
            if (out / OLD_STATE).is_file() and not self.file.is_file():
                _read_steps(out / OLD_STATE)
                (out / OLD_STATE).rename(self.file)
            if self.file.is_file():
                self.steps = _read_steps(self.file)
            elif holds_nothing(out) or (out / "dataset").is_dir():
                # First of all, so that a run that is killed in its first second is known as one.
                write_json(self.file, self.steps)
            else:
                raise InputError(f"{out} is not empty and holds no run.", "Choose another output folder.")
        except OSError as error:
            raise unwritable(out, error) from error

    def unchanged(self, step: str, read: str, written: str | None) -> bool:
        """Whether a step read the same before, and what it wrote is still there as it was."""
        return written is not None and self.steps.get(step) == {"read": read, "written": written}

    def done(self, step: str, read: str, written: str) -> None:
        """Remember a finished step."""
        self.steps[step] = {"read": read, "written": written}
        try:
            write_json(self.file, self.steps)
        except OSError as error:
            raise unwritable(self.file, error) from error


def _read_steps(file: Path) -> dict[str, dict[str, str]]:
    steps = read_json(file)
    if not isinstance(steps, dict) or not all(
        isinstance(step, dict) and step.keys() == {"read", "written"} for step in steps.values()
    ):
        raise InputError(f"{file} was not written by `pkt run`.", "Choose another output folder.")
    return steps


def _build(recipe: Recipe, dataset: Path, state: State, callbacks: RunCallbacks) -> None:
    hashes = [facts.content_hash for facts, _ in sources.read_records(recipe.dataset)]
    read = json_hash([__version__, recipe.dataset.model_dump(), recipe.seed, hashes])
    if state.unchanged("dataset", read, _hash_of_rows(dataset)):
        callbacks.step("Dataset", True)
        return
    callbacks.step("Dataset", False)
    built = build.build_dataset(dataset, recipe, progress=callbacks.count)
    if not built.validation["ok"]:
        raise CheckFailed(f"{dataset} does not pass validation.", f"Look at it with `pkt validate {dataset}`.")
    state.done("dataset", read, str(_hash_of_rows(dataset)))


def _hash_of_rows(dataset: Path) -> str | None:
    return locate_dataset(str(dataset)).content() if dataset.is_dir() else None


def _hash_of_file(file: Path) -> str | None:
    return sha256_file(file) if file.is_file() else None


def _train(
    recipe: Recipe,
    dataset: LocatedDataset,
    adapter: Path,
    checkpoints: Path,
    state: State,
    callbacks: RunCallbacks,
    restart: bool,
) -> None:
    base = bases.locate_base(recipe.base, recipe.base_revision, recipe=recipe)
    read = json_hash([__version__, train.what_decides(recipe), dataset.content(), bases.base_hash(base)])
    weights = adapter / "adapter_model.safetensors"
    if state.unchanged("adapter", read, _hash_of_file(weights)):
        callbacks.step("Training", True)
        return
    callbacks.step("Training", False)
    train.train(
        dataset,
        adapter,
        recipe,
        checkpoints=checkpoints,
        restart=restart,
        progress=callbacks.training,
        note=callbacks.note,
    )
    state.done("adapter", read, str(_hash_of_file(weights)))


def _evaluate(recipe: Recipe, dataset: LocatedDataset, adapter: Path, state: State, callbacks: RunCallbacks) -> None:
    settings = {
        "evaluation": recipe.evaluation.model_dump(),
        "decoding": recipe.decoding.model_dump(),
        "seed": recipe.seed,
    }
    weights = _hash_of_file(adapter / "adapter_model.safetensors")
    read = json_hash([__version__, settings, weights, dataset.content()])
    if state.unchanged("evaluation", read, _hash_of_file(adapter / "evaluation.json")):
        callbacks.step("Evaluation", True)
        return
    callbacks.step("Evaluation", False)
    evaluate.evaluate(adapter, dataset, recipe=recipe, progress=callbacks.count, note=callbacks.note)
    state.done("evaluation", read, str(_hash_of_file(adapter / "evaluation.json")))


@contextmanager
def _hub(recipe: Recipe, out: Path) -> Iterator[None]:
    """The Hub that the recipe publishes to: the chosen one, or a local one in the run folder with the tiny base."""
    with ExitStack() as stack:
        if recipe.publish.local_hub:
            token_file = kept_token(out / "hub")
            endpoint = stack.enter_context(running_hub(out / "hub", owner_token=read_token(token_file)))
            use_hub(endpoint, token_file, cache=out / "hub-cache")
            publish.push_tiny_base()
        yield


def _publish(
    recipe: Recipe, dataset: Path, adapter: Path, state: State, callbacks: RunCallbacks
) -> tuple[publish.Published, verify.Verification | None]:
    """Publish dataset and adapter; a new repository is seen by others once it was verified."""
    callbacks.step("Publication", False)
    if recipe.publish.dataset_repo:
        publish.push_dataset(dataset, recipe.publish.dataset_repo)
    verified: list[verify.Verification] = []

    def check(repo_id: str, revision: str) -> None:
        callbacks.step("Verification", False)
        verified.append(verify.check(repo_id, revision))
        state.done("verification", json_hash([repo_id, revision]), revision)

    published = publish.publish(
        adapter,
        str(recipe.publish.adapter_repo),
        publish.PublishOptions(dataset_repo=recipe.publish.dataset_repo),
        check=check,
    )
    if not verified:
        seen = json_hash([published.repo_id, published.revision])
        if state.unchanged("verification", seen, published.revision):
            callbacks.step("Verification", True)
        else:
            check(published.repo_id, published.revision)
    return published, verified[0] if verified else None
