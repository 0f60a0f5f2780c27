"""Trackers: the Trainer's own callbacks run with what the toolkit gives them, beside stand-ins for the packages."""

import os
import signal
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import pytest

from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core.errors import EnvironmentLacks
from toolkit.core.recipe import fields
from toolkit.training import trackers, train
from toolkit.training.checkpoints import prepare_checkpoints
from toolkit.training.trackers import PACKAGES, TRACKERS, tracked_run

EVERY = sorted(TRACKERS)


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the packages of all trackers, by tracker, which keep what they are called with."""
    from transformers.integrations import integration_utils

    stand_ins = {}
    for name in EVERY:
        module = stand_ins[name] = MagicMock(name=name, __spec__=ModuleSpec(name, None), __version__="99")
        monkeypatch.setitem(sys.modules, PACKAGES.get(name, name), module)
    config_util = MagicMock(ConfigError=type("ConfigError", (Exception,), {}))
    for inner in ("wandb.sdk", "wandb.sdk.lib", "wandb.sdk.lib.config_util"):
        monkeypatch.setitem(sys.modules, inner, config_util)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_ins["tensorboard"])
    stand_ins["mlflow"].utils.validation.configure_mock(MAX_PARAM_VAL_LENGTH=6000, MAX_PARAMS_TAGS_PER_BATCH=100)
    stand_ins["mlflow"].search_runs.return_value = []
    stand_ins["trackio"].context_vars.current_space_id.get.return_value = None
    for method in ("set_model_graph", "log_parameters", "log_metrics"):
        setattr(stand_ins["comet"].start.return_value, f"__internal_api__{method}__", MagicMock())
    monkeypatch.setattr(integration_utils, "_is_comet_installed", True)
    monkeypatch.setattr(integration_utils, "_is_comet_recent_enough", True)
    return stand_ins


def losses_seen(package):
    """The training losses that a package was given, in order."""
    given = [dict(zip(("key", "value"), call.args, strict=False)) | call.kwargs for call in package.mock_calls]
    logs = [each for call in given for each in (call.get("key"), call.get("metrics")) if isinstance(each, dict)]
    scalars = [call["value"] for call in given if call.get("key") == "train/loss"]
    return scalars or [each[key] for each in logs for key in ("loss", "train/loss") if key in each]


def test_every_tracker_sees_each_loss_once_and_nothing_of_the_machine(tmp_path, use_small_base, packages, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    # It would upload the weights.
    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    dataset = write_dataset(tmp_path / "dataset")
    plain = train.train(dataset, tmp_path / "plain", recipe(use_small_base))
    tracked = train.train(dataset, tmp_path / "tracked", recipe(use_small_base, training__track=EVERY))
    weights = "adapter_model.safetensors"
    assert adapter_bytes(tracked.adapter)[weights] == adapter_bytes(plain.adapter)[weights]
    for name, package in packages.items():
        seen = losses_seen(package)
        assert (len(seen), seen[-1]) == (8, pytest.approx(tracked.loss)), name
        recorded = repr(package.mock_calls)
        assert "validation_loss" in recorded
        assert "learning_rate" in recorded
        # TensorBoard's writer is given the folder that it writes into, and records it nowhere.
        recorded = recorded.replace(f"SummaryWriter('{tmp_path}/tracked-tensorboard')", "")
        assert not [word for word in (str(tmp_path), "hf_abc", os.uname().nodename + "'") if word in recorded], name
        assert "log_artifact" not in recorded
    for name in ("wandb", "swanlab"):
        packages[name].finish.assert_called_once_with()
    packages["mlflow"].end_run.assert_called_once_with()
    packages["comet"].start.return_value.end.assert_called_once_with()


def test_a_run_that_continues_has_the_same_name_and_another_one_has_not(tmp_path):
    def run(folder, *, restart=False):
        prepare_checkpoints(tmp_path / folder, {"recipe": "a"}, restart=restart)
        return tracked_run(recipe("a/b"), tmp_path / folder)

    first = run("mine-checkpoints")
    assert run("mine-checkpoints") == first
    assert run("other-checkpoints").id != first.id
    os.utime(tmp_path / "mine-checkpoints" / "checkpoint.json", (1, 1))
    assert run("mine-checkpoints", restart=True).id not in (first.id, tracked_run(recipe("a/b"), tmp_path).id)
    assert first.name == f"demo-mine-{first.id[:6]}"
    assert run("trial/checkpoints").name.startswith("demo-trial-")
    assert first.settings["training.learning_rate"] == recipe("a/b").training.learning_rate


def test_a_tracker_is_not_asked_for_in_the_terminal_and_does_not_take_ctrl_c(tmp_path, monkeypatch):
    def start(_run):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert "WANDB_LOG_MODEL" not in os.environ
        input("API key: ")

    monkeypatch.setenv("WANDB_LOG_MODEL", "end")
    monkeypatch.setitem(TRACKERS, "wandb", ("WandbCallback", start))
    before = signal.getsignal(signal.SIGINT)
    (callback,) = trackers.trackers(["wandb"], tracked_run(recipe("a/b"), tmp_path))
    with pytest.raises(EnvironmentLacks, match=r"wandb cannot start: EOF .* WANDB_MODE=offline .* `training\.track`"):
        callback.on_train_begin(None, None, None)
    assert signal.getsignal(signal.SIGINT) is before
    assert os.environ["WANDB_LOG_MODEL"] == "end"
    assert not sys.stdin.closed


def test_a_tracker_that_is_not_installed_is_said_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    needs = r"`training\.track` needs the package comet_ml, .* pip install comet_ml wandb"
    with pytest.raises(EnvironmentLacks, match=needs):
        train.train(tmp_path / "no", tmp_path / "adapter", recipe("a/b", training__track=["comet", "wandb"]))


def test_every_tracker_of_the_recipe_has_a_callback_in_transformers():
    from typing import get_args

    from transformers import integrations

    (kind, _none) = get_args(fields()["training.track"].annotation)
    assert set(get_args(get_args(kind)[0])) == TRACKERS.keys()
    assert all(hasattr(integrations, callback) for callback, _ in TRACKERS.values())
