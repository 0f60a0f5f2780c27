"""What `pkt` alone shows: the road from descriptions to a published adapter, and where a folder is on it.

Manifests in, lines out. No library is imported that takes long, and no file of rows or weights is read.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toolkit.cli.options import program
from toolkit.core.layout import EVALUATION, MANIFEST, VALIDATION
from toolkit.core.text import printable

STEPS = {
    "build-dataset": "descriptions, cleaned, masked, split and checked",
    "train": "an adapter on them",
    "evaluate": "its figures and its card, beside the baselines",
    "publish": "card and adapter on the Hub, verified in a clean process",
}
LISTED, UNREADABLE = 12, "unreadable"
EXAMPLE = '"A small fox with a tail of blue flame"'


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that pkt wrote.

    Attributes:
        name: Of the folder, from the one that was looked at.
        state: What it is, in a few words.
        step: The step of the road that it came by; None for what lies beside the road.
        goes_on: The command that goes on from it, or a sentence; None where there is nothing to do.
        finished: Whether that command uses it, rather than taking it a step further.
        written: When, in seconds since 1970.
        rows: Hash of the rows of a dataset, or of those that an adapter was trained on.
    """

    name: str
    state: str
    step: str | None = None
    goes_on: str | None = None
    finished: bool = False
    written: float = 0.0
    rows: str | None = None


def shown(folder: Path) -> Iterator[str]:
    """The lines: each step with what is done and what is next, the folders found, and the next command."""
    places = find_places(folder)
    following = next_place(places)
    steps = list(STEPS)
    reached = max((steps.index(place.step) for place in places if place.step), default=-1)
    begun = following.step if following and not following.finished else None
    upcoming = steps[steps.index(begun) + 1] if begun and begun != steps[-1] else None
    yield "The road:"
    for number, (step, made) in enumerate(STEPS.items()):
        mark = "next" if step == upcoming else "done" if number <= reached else ""
        yield f"  {mark:4}  {step:13}  {made}"
    yield "Then: verify, name, identify, app, serve, merge, export. All by one recipe: run."
    yield ""
    if places:
        yield "This folder:"
        width = max(len(place.name) for place in places[:LISTED])
        yield from (f"  {printable(place.name):{width}}  {printable(place.state)}" for place in places[:LISTED])
        if len(places) > LISTED:
            yield f"  and {len(places) - LISTED} more"
    # Every `/tmp` has folders of others that cannot be entered.
    if all(place.state == UNREADABLE for place in places):
        yield "Start here:" if places else "Nothing of pkt is in this folder. Start here:"
        yield f"  {program()} run demo demo             all of it, without account, GPU or network"
        yield f"  {program()} build-dataset data        a dataset of its own corpus; --help for yours"
    if following and following.goes_on:
        yield f"\nNext:\n  {printable(following.goes_on)}"
    yield ""
    yield f"All commands: {program()} --help"


def find_places(folder: Path) -> list[Place]:
    """What pkt wrote into a folder and the folders directly in it, the folder itself first."""
    try:
        paths = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")]
    except OSError:
        return [Place(".", UNREADABLE)]
    places: list[Place] = []
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            place = _by_manifest(name, path) if (path / MANIFEST).is_file() else _without_manifest(name, path)
        # Not to be opened, damaged, or of another program that has a file of the same name.
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            place = Place(name, UNREADABLE)
        if place is not None:
            places.append(place)
    return sorted(places, key=lambda place: (place.name != ".", list(STEPS).index(place.step) if place.step else 9))


def next_place(places: Sequence[Place]) -> Place | None:
    """The folder to go on from: the newest that is not finished, a dataset only while no adapter was trained on it."""
    datasets = {place.rows: shlex.quote(place.name) for place in reversed(places) if place.step == "build-dataset"}
    trained = {place.rows for place in places if place.step not in (None, "build-dataset")}
    todo = [each for each in places if each.goes_on and not (each.step == "build-dataset" and each.rows in trained)]
    place = max(todo, key=lambda each: (not each.finished, each.written), default=None)
    if place is None or place.goes_on is None or place.step != "train":
        return place
    return replace(place, goes_on=place.goes_on.removesuffix("DATASET") + datasets.get(place.rows, "DATASET"))


def _by_manifest(name: str, path: Path) -> Place | None:
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or "toolkit" not in manifest:
        return None
    kind, written, quoted = manifest["kind"], (path / MANIFEST).stat().st_mtime, shlex.quote(name)
    if kind == "dataset":
        from toolkit.data.dataset import rows_hash_of

        report = json.loads((path / VALIDATION).read_text(encoding="utf-8")) if (path / VALIDATION).is_file() else {}
        valid = report.get("ok")
        verdict = "valid" if valid else "not validated" if valid is None else "does not pass validation"
        out = "../adapter" if name == "." else "adapter"
        goes_on = f"{program()} train {quoted} {out}" if valid else f"{program()} validate {quoted}"
        state = f"dataset, {sum(manifest['splits'].values()):,} rows, {verdict}"
        return Place(name, state, "build-dataset", goes_on, False, written, rows_hash_of(manifest["files"]))
    if kind not in ("adapter", "encoder"):
        return Place(name, {"merged": "merged model", "report": "evaluation of another adapter"}.get(kind, str(kind)))
    rows = manifest["dataset"]["content"]
    use = f"name {EXAMPLE}" if kind == "adapter" else f"identify {EXAMPLE}"
    step, what, goes_on = "train", "not evaluated yet", f"{program()} evaluate {quoted} DATASET"
    if (path / EVALUATION).is_file():
        test = json.loads((path / EVALUATION).read_text(encoding="utf-8"))["test"]
        what = f"top-1 of test {test['methods']['adapter']['top1']['value']:.1%}" if test else "evaluated"
        step, goes_on = "evaluate", f"{program()} publish {quoted} YOUR-NAME/YOUR-ADAPTER"
    if published := manifest.get("repo_id"):
        step, what, goes_on = "publish", f"{what}, published as {published}", f"{program()} {use} --adapter {quoted}"
    return Place(name, f"{kind}, {what}", step, goes_on, step == "publish", written, rows)


def _without_manifest(name: str, path: Path) -> Place | None:
    """A run, a sweep, an unfinished training or a local Hub."""
    for file in ("sweep.json", "pipeline.json", "checkpoint.json"):
        if (path / file).is_file():
            known, written = json.loads((path / file).read_text(encoding="utf-8")), (path / file).stat().st_mtime
            break
    else:
        is_hub = (path / "servers").is_file() and (path / "models").is_dir()
        return Place(name, "local Hub, for `hub serve`") if is_hub else None
    if file == "sweep.json":
        return Place(name, f"sweep of {len(known['runs'])} runs")
    if file == "checkpoint.json":
        steps = [int(each.name[11:]) for each in path.glob("checkpoint-*") if each.name[11:].isdecimal()]
        again = f"the `{program()} train` that began {name}, again: it continues at step {max(steps, default=0)}"
        return Place(name, f"unfinished training, step {max(steps)}", None, again, False, written) if steps else None
    done = [step.lower() for step in ("Dataset", "Training", "Evaluation", "Verification") if step in known]
    adapter = shlex.quote(f"{name}/adapter" if name != "." else "adapter")
    whole = "evaluation" in done
    again = f"the `{program()} run` that began {name}, again"
    goes_on = f"{program()} name {EXAMPLE} --adapter {adapter}" if whole else again
    step = "publish" if "verification" in done else None
    return Place(name, f"run: {', '.join(done)} done", step, goes_on, whole, written) if done else None
