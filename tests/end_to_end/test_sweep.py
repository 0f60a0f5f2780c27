"""Sweeps: each trial a process of its own, the best chosen by validation, and nothing of the others published."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from support.datasets import creatures, table
from toolkit import run, sweep
from toolkit.core.errors import InputError
from toolkit.core.folder import file_hashes, read_json
from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.run import RunCallbacks
from toolkit.sweep import plan_trials, run_sweep
from toolkit.training.train import Interrupted

RECIPE = """\
name = "mine"
base = "pokepicker/tiny-gemma"
[[dataset.sources]]
name = "table"
location = "{table}"
description_column = "description"
name_column = "name"
family_column = "family"
[training]
max_steps = 3
save_every = 1
contrast = 0.3
quantization = "none"
[evaluation]
names_per_description = 1
max_unseen = 2
[publish]
adapter_repo = "you/namer"
"""
# The command line with a small base in the place of the one that ships.
SMALL = """
from pathlib import Path
from toolkit.model import base
base.tiny_base_folder = lambda: Path({base!r})
from toolkit.cli import main
main()
"""


def python(code):
    return sys.executable, "-c", code


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE.format(table=table(tmp_path, creatures(12, 6))))
    return str(file)


@pytest.fixture
def trials(recipe):
    return plan_trials([recipe], {"training.learning_rate": [1e-3, 1e-2]})


def names(*given, **settings):
    return [
        trial.name for trial in plan_trials(given, {key.replace("__", "."): each for key, each in settings.items()})
    ]


def test_a_trial_is_named_by_what_tells_it_from_the_others(tmp_path, recipe, monkeypatch):
    rates = {"training__learning_rate": [1e-4, 3e-3]}
    assert names("demo", **rates, seed=[8]) == ["learning_rate=0.0001", "learning_rate=0.003"]
    assert names("demo", lora__r=[4], training__max_steps=[5]) == [""]
    assert names("demo", recipe, base=["a/b", "c/d"])[::3] == ["recipe=demo,base=a-b", "recipe=mine,base=c-d"]
    both = names("demo", training__quantization=["nf4", "none"], evaluation__quantization=["nf4", "none"])
    assert both[1] == "training.quantization=nf4,evaluation.quantization=none"
    (tmp_path / "other.toml").write_text((tmp_path / "mine.toml").read_text())
    assert names(str(tmp_path)) == ["recipe=mine", "recipe=other"]
    # The run folder of `pkt run demo demo` is no folder of recipes.
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert names("demo") == [""]
    with pytest.raises(InputError, match="holds no recipe"):
        names("./demo")


def test_a_mistake_in_one_trial_is_found_before_any_starts(recipe):
    with pytest.raises(InputError, match=r"training\.learning_rate: input should be greater than 0"):
        names(recipe, training__learning_rate=[1e-3, 0])
    with pytest.raises(InputError, match="Two runs of the sweep are called r=4"):
        names(recipe, lora__r=[4, 4])
    with pytest.raises(InputError, match="identify-minilm makes an encoder"):
        names(recipe, "identify-minilm")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, small_base):
    """A sweep of which one trial cannot be trained, and what its second call published."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mine.toml").write_text(RECIPE.format(table=table(folder, creatures(12, 6))))
    trials = plan_trials([str(folder / "mine.toml")], {"lora.r": [2, 4]})
    short = trials[0].recipe.training.model_copy(update={"max_length": 16})
    bad = replace(trials[0], name="short", recipe=trials[0].recipe.model_copy(update={"training": short}))
    published = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bases, "tiny_base_folder", lambda: small_base)
        patch.setattr(sweep, "PROGRAM", python(SMALL.format(base=str(small_base))))
        patch.setattr(run, "_publish", lambda recipe, *_: published.append(recipe) or (None, None))
        first = run_sweep([bad, *trials], folder / "out", workers=2)
        assert published == []
        # What is finished starts no process.
        patch.setattr(sweep, "PROGRAM", ("/nowhere",))
        second = run_sweep(trials, folder / "out")
    return first, second, published


def test_the_best_on_validation_alone_is_measured_on_test_and_its_card_says_among_how_many(swept):
    first, _, _ = swept
    best, other, failed = first.trials
    assert (best.score.value, other.score.value) == tuple(sorted((best.score.value, other.score.value), reverse=True))
    assert failed.name == "short"
    assert "a limit of 16" in failed.error or "max_length" in failed.error
    evaluated = [trial.name for trial in first.trials if (first.out / trial.name / "adapter/evaluation.json").is_file()]
    assert evaluated == [best.name]
    assert first.best.evaluation == read_json(first.out / best.name / "adapter" / "evaluation.json")
    card = (first.out / best.name / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "of: validation. It is the best on `validation` of the 3 that a sweep tried." in card


def test_the_rows_are_built_once_and_the_same_for_all(swept):
    first, _, _ = swept
    datasets = [first.out / trial.name / "dataset" for trial in first.trials]
    assert len({json.dumps(file_hashes(dataset)) for dataset in datasets}) == 1
    train = [(dataset / "data" / "train-00000-of-00001.parquet").stat().st_ino for dataset in datasets]
    cards = [(dataset / "README.md").stat().st_ino for dataset in datasets]
    assert (len(set(train)), len(set(cards))) == (1, 3)


def test_the_same_call_goes_on_counts_all_that_was_tried_and_publishes_the_best_alone(swept):
    first, second, published = swept
    assert [trial.name for trial in second.trials] == [trial.name for trial in first.trials[:2]]
    assert second.trials[0].scores == first.trials[0].scores
    ((on, among),) = {(str(one.evaluation.selected_on), one.evaluation.selected_among) for one in published}
    assert (on, among, second.tried) == ("['validation']", 3, 3)
    known = read_json(second.out / "sweep.json")
    assert list(known["runs"]) == [trial.name for trial in second.trials]
    assert (known["tried"], known["earlier"]) == (3, ["short"])
    with Image.open(second.out / "sweep.png") as image:
        assert image.width == 1400


def test_of_equal_ones_the_lower_validation_loss_leads_and_a_failed_one_comes_last():
    def trial(name, mrr, loss, error=None):
        scores = None if error else {"mrr": {"value": mrr}}
        return sweep.Trial(name, load_recipe("demo"), scores, loss, error)

    given = [trial("a", 0, None, "!"), trial("b", 0.5, 2.0), trial("c", 0.5, 1.0), trial("d", 0.6, 3.0)]
    assert "".join(each.name for each in sorted(given, key=sweep._order)) == "dcba"


def test_a_killed_trial_is_said_and_the_others_go_on(trials, tmp_path, monkeypatch):
    killed = "import os, sys; os.kill(os.getpid(), 9) if '0.01' in sys.argv[3] else sys.exit('it broke')"
    monkeypatch.setattr(sweep, "PROGRAM", python(killed))
    result = run_sweep(trials, tmp_path / "out", workers=2)
    errors = {trial.name: trial.error for trial in result.trials}
    assert errors["learning_rate=0.01"] == "The process was killed (Killed), as it is where memory runs out."
    assert errors["learning_rate=0.001"].startswith("It ended with exit code 1; ")
    assert (result.best, result.tried) == (None, 2)
    assert {each["error"] for each in read_json(tmp_path / "out" / "sweep.json")["runs"].values()} == set(
        errors.values()
    )


def test_ctrl_c_ends_all_trials_and_waits_for_them(trials, tmp_path, monkeypatch):
    waits = (
        "import os, sys, pathlib; os.write(1, b'1 2\\n'); sys.stdin.read(); pathlib.Path(sys.argv[3], 'end').touch()"
    )
    monkeypatch.setattr(sweep, "PROGRAM", python(waits))
    reported = set()

    def count(task, *_):
        reported.add(task)
        if len(reported & {trial.name for trial in trials}) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="The sweep was stopped"):
        run_sweep(trials, tmp_path / "out", RunCallbacks(count=count), workers=2)
    assert all((tmp_path / "out" / trial.name / "end").is_file() for trial in trials)


def test_a_trial_whose_starter_is_gone_ends_with_a_checkpoint(trials, tmp_path, small_base, use_small_base):
    out = tmp_path / "out"
    run.make_dataset(trials[0].recipe, run.Steps(out), lambda *_: None)
    slow = trials[0].recipe.training.model_copy(update={"max_steps": 500, "save_every": 500})
    job = {"recipe": trials[0].recipe.model_copy(update={"training": slow}).model_dump(mode="json"), "restart": False}
    command = [*python(SMALL.format(base=str(small_base))), "run", "-", str(out), "--trial"]
    # As a worker of Ray starts it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with child:
        child.stdin.write(f"{json.dumps(job)}\n".encode())
        child.stdin.flush()
        assert child.stdout.readline() == b"1 500\n"
        child.stdin.close()
        child.stdout.close()
        assert child.wait() == 130
    assert list(out.glob("checkpoints/checkpoint-*/complete.json"))
    assert not (out / "adapter").exists()


@pytest.mark.parametrize(("files", "said"), [(["site.html"], "is not empty and holds no sweep"), (["hub"], None)])
def test_a_folder_of_something_else_is_left_alone(trials, tmp_path, files, said, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / files[0]).mkdir()
    monkeypatch.setattr(sweep, "PROGRAM", python("raise SystemExit(1)"))
    if said:
        with pytest.raises(InputError, match=said):
            run_sweep(trials, out)
        assert [path.name for path in out.iterdir()] == files
        (out / "sweep.json").write_text('["a sweep of another program"]')
        with pytest.raises(InputError, match=said):
            run_sweep(trials, out)
    else:
        assert run_sweep(trials, out).best is None


def test_a_worker_of_ray_runs_a_trial(ray_cluster, trials, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "_evaluate", lambda *_, **__: None)
    once = trials[0].recipe.training.model_copy(update={"max_steps": 1})
    trial = replace(trials[0], recipe=trials[0].recipe.model_copy(update={"training": once}))
    (done,) = run_sweep([trial], tmp_path / "out", engine="ray").trials
    assert (done.error, done.scores) == (None, read_json(tmp_path / "out" / trial.name / "validation_scores.json"))
