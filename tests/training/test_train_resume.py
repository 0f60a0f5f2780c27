"""Nothing is lost: killed, interrupted or damaged, a training goes on and ends with the same bytes."""

import os
import shutil
import signal
import sys
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from support.models import untied
from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core import folder
from toolkit.core.errors import InputError
from toolkit.core.folder import read_json
from toolkit.core.layout import TINY_BASE_ID
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import loading, saving
from toolkit.training import checkpoints, progress, train

BEST_EARLY = 0.05


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset", strange_validation=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_base):
    """Bytes of the adapter of a run that nothing interrupted, by the value of `keep`."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.model.base.tiny_base_folder", lambda: small_base)
        for keep in ("last", "best"):
            folder = tmp_path_factory.mktemp(f"whole-{keep}")
            strange = write_dataset(folder / "dataset", strange_validation=True)
            result = train.train(strange, folder / "adapter", settings_for(keep))
            assert result.best_step == (3 if keep == "best" else None)
            made[keep] = adapter_bytes(folder / "adapter")
    return made


def settings_for(keep):
    """`best` in 4 bits, at such a rate that the best step comes early: a resumed run has to remember its adapter."""
    early = {"training__learning_rate": BEST_EARLY, "training__quantization": "nf4"} if keep == "best" else {}
    return recipe(TINY_BASE_ID, training__keep=keep, **early)


def killed(run) -> None:
    """Run something in a process of its own that kills itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def stop_at(step):
    """A progress that sends SIGINT after a step."""
    return lambda progress: signal.raise_signal(signal.SIGINT) if progress.step == step else None


def interrupted(dataset, out, settings, at=4):
    """Train until SIGINT comes after a step."""
    with pytest.raises(train.Interrupted) as caught:
        train.train(dataset, out, settings, progress=stop_at(at))
    return caught.value


@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize(("where", "step", "resumed"), [("step", 5, 3), ("save", 6, 3), ("step", 8, 6), ("step", 1, 0)])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path, dataset, use_small_base, monkeypatch, whole, keep, where, step, resumed
):
    mark = progress.mark_complete

    def mark_or_die(checkpoint, spent):
        if where == "save" and checkpoint.name == f"checkpoint-{step}":
            kill()
        mark(checkpoint, spent)

    def run():
        progress.mark_complete = mark_or_die
        report = (lambda p: kill() if p.step == step else None) if where == "step" else (lambda _: None)
        train.train(dataset, tmp_path / "cut", settings_for(keep), progress=report)

    killed(run)
    assert not (tmp_path / "cut").exists()
    result = train.train(dataset, tmp_path / "cut", settings_for(keep))
    assert result.resumed_from == resumed
    assert adapter_bytes(tmp_path / "cut") == whole[keep]


@pytest.mark.parametrize("where", ["before the folder", "after the folder"])
@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_run_killed_after_its_last_step_is_not_trained_further(tmp_path, dataset, use_small_base, whole, where, keep):
    def run():
        if where == "before the folder":
            saving.save_adapter = kill
        else:
            train.remove_checkpoints = kill
        train.train(dataset, tmp_path / "cut", settings_for(keep))

    killed(run)
    result = train.train(dataset, tmp_path / "cut", settings_for(keep))
    assert (result.resumed_from, result.steps) == (8, 8)
    assert result.loss is not None
    assert adapter_bytes(tmp_path / "cut") == whole[keep]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_an_interrupt_writes_a_checkpoint_and_the_same_command_goes_on(tmp_path, dataset, use_small_base, whole, keep):
    stopped = interrupted(dataset, tmp_path / "cut", settings_for(keep), at=5)
    assert stopped.exit_code == 130
    assert str(stopped).startswith("Stopped at step")
    said = []
    result = train.train(dataset, tmp_path / "cut", settings_for(keep), note=said.append)
    assert result.resumed_from in (5, 6)
    assert result.notes == (f"Continuing from step {result.resumed_from}.",) == tuple(said)
    assert adapter_bytes(tmp_path / "cut") == whole[keep]
    assert not (tmp_path / "cut-checkpoints").exists()


def test_embeddings_that_are_trained_survive_an_interruption(tmp_path, dataset, use_small_base):
    chosen = recipe(use_small_base, lora__target_modules=["q_proj", "embed_tokens"], training__max_steps=4)
    train.train(dataset, tmp_path / "whole", chosen)
    interrupted(dataset, tmp_path / "cut", chosen, at=2)
    assert train.train(dataset, tmp_path / "cut", chosen).resumed_from in (2, 3)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


@pytest.mark.parametrize("began_with", ["oneDNN", "MKL"])
def test_a_run_goes_on_with_the_kernels_that_it_began_with(tmp_path, dataset, use_small_base, monkeypatch, began_with):
    """Whatever the machine would choose by now."""
    both = ("oneDNN", "MKL")
    used = []
    monkeypatch.setattr(train, "float32_kernels", lambda kernels: used.append(kernels) or nullcontext())
    monkeypatch.setattr(train, "available_kernels", lambda: both)
    monkeypatch.setattr(train, "best_kernels", lambda: began_with)
    interrupted(dataset, tmp_path / "adapter", settings_for("last"))
    monkeypatch.setattr(train, "best_kernels", lambda: next(each for each in both if each != began_with))
    train.train(dataset, tmp_path / "adapter", settings_for("last"))
    assert used == [began_with, began_with]
    assert read_json(tmp_path / "adapter" / "manifest.json")["precision"]["kernels"] == began_with


def test_kernels_that_this_machine_lacks_are_said(tmp_path, dataset, use_small_base, monkeypatch):
    monkeypatch.setattr(train, "best_kernels", lambda: "oneDNN")
    interrupted(dataset, tmp_path / "adapter", settings_for("last"))
    monkeypatch.setattr(train, "best_kernels", lambda: "BLAS")
    monkeypatch.setattr(train, "available_kernels", lambda: ("BLAS",))
    notes = train.train(dataset, tmp_path / "adapter", settings_for("last")).notes
    assert notes[-1].startswith("The run began with oneDNN's kernels, which this machine lacks")
    assert read_json(tmp_path / "adapter" / "manifest.json")["precision"]["kernels"] == "BLAS"


def test_a_run_of_an_older_version_goes_on_with_torch_s_own_kernels_and_its_quantization(
    tmp_path, dataset, use_small_base, monkeypatch
):
    older = recipe(use_small_base, training__quantization="nf4")
    # It noted no kernels, and its recipe said nf4 where nothing was given.
    monkeypatch.setattr(train, "best_kernels", lambda: None)
    interrupted(dataset, tmp_path / "adapter", older)
    assert read_json(tmp_path / "adapter-checkpoints" / checkpoints.IDENTITY).keys() == {"recipe", "dataset", "base"}
    monkeypatch.setattr(train, "available_kernels", lambda: ("oneDNN", "MKL"))
    assert train.train(dataset, tmp_path / "adapter", recipe(use_small_base)).resumed_from
    precision = read_json(tmp_path / "adapter" / "manifest.json")["precision"]
    assert precision == {"base": "nf4", "compute": "float32", "kernels": "MKL"}


@pytest.mark.parametrize(("began_in", "chosen_now"), [("none", "nf4"), ("nf4", "none")])
def test_a_run_keeps_how_its_base_is_held_whatever_the_memory_is_by_now(
    tmp_path, dataset, use_small_base, monkeypatch, began_in, chosen_now
):
    settings = settings_for("last")
    assert settings.training.quantization == "auto"
    monkeypatch.setattr(train, "chosen_quantization", lambda *_: began_in)
    interrupted(dataset, tmp_path / "adapter", settings)
    monkeypatch.setattr(train, "chosen_quantization", lambda *_: chosen_now)
    assert train.train(dataset, tmp_path / "adapter", settings).resumed_from
    manifest = read_json(tmp_path / "adapter" / "manifest.json")
    assert (manifest["precision"]["base"], manifest["recipe"]["training"]["quantization"]) == (began_in, began_in)
    # Finished, too, it counts as the same, and only what was asked for by name does not.
    again = train.train(dataset, tmp_path / "adapter", settings)
    assert again.resumed_from == again.steps
    with pytest.raises(InputError, match="recipe"):
        train.train(dataset, tmp_path / "adapter", recipe(TINY_BASE_ID, training__quantization=chosen_now))


DAMAGES = {
    "cut short": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "one bit flipped": lambda file: file.write_bytes(flipped(file.read_bytes())),
    "gone": lambda file: file.unlink(),
    "emptied": lambda file: file.write_bytes(b""),
}


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_whatever_happens_to_any_file_of_the_newest_checkpoint_the_one_before_it_is_taken(
    tmp_path, dataset, use_small_base
):
    kept = tmp_path / "adapter-checkpoints"
    interrupted(dataset, tmp_path / "adapter", settings_for("best"), at=5)
    newest, before = sorted(kept.glob("checkpoint-*"), key=lambda path: int(path.name[11:]), reverse=True)[:2]
    files = [path.relative_to(kept) for path in newest.rglob("*") if path.is_file()]
    assert {"adapter_model.safetensors", "optimizer.pt", progress.BEST, checkpoints.MARK} <= {one.name for one in files}
    identity = read_json(kept / checkpoints.IDENTITY)
    shutil.copytree(kept, tmp_path / "untouched")
    for file in files:
        for name, damage in DAMAGES.items():
            shutil.rmtree(kept)
            shutil.copytree(tmp_path / "untouched", kept)
            damage(kept / file)
            start = checkpoints.prepare_checkpoints(kept, identity, restart=False)
            assert start.checkpoint == before, (file, name)
            assert len(start.notes) == 2, (file, name)


def test_a_damaged_checkpoint_is_said_to_be_one_and_the_result_is_the_same(tmp_path, dataset, use_small_base, whole):
    interrupted(dataset, tmp_path / "adapter", settings_for("last"))
    newest = max((tmp_path / "adapter-checkpoints").glob("checkpoint-*"))
    DAMAGES["one bit flipped"](newest / "optimizer.pt")
    result = train.train(dataset, tmp_path / "adapter", settings_for("last"))
    assert result.resumed_from == 3
    assert result.notes[0] == f"The checkpoint of step {newest.name[11:]} is damaged and is left out."
    assert adapter_bytes(tmp_path / "adapter") == whole["last"]


def test_a_checkpoint_that_no_library_can_read_is_said_to_be_one(tmp_path, dataset, use_small_base):
    interrupted(dataset, tmp_path / "adapter", settings_for("last"))
    for checkpoint in (tmp_path / "adapter-checkpoints").glob("checkpoint-*"):
        (checkpoint / "adapter_model.safetensors").write_bytes(b"of another version")
        checkpoints.mark_complete(checkpoint, checkpoints.Spent(1.0))
    with pytest.raises(InputError, match=r"cannot be continued: .* Begin anew with `restart=True`"):
        train.train(dataset, tmp_path / "adapter", settings_for("last"))


def test_a_changed_recipe_or_dataset_is_noticed_and_restart_begins_anew_once(tmp_path, dataset, use_small_base):
    interrupted(dataset, tmp_path / "adapter", recipe(use_small_base))
    changed = recipe(use_small_base, training__learning_rate=1e-4)
    with pytest.raises(InputError, match="unfinished run with another recipe"):
        train.train(dataset, tmp_path / "adapter", changed)
    other = write_dataset(tmp_path / "other", answer="Mew")
    with pytest.raises(InputError, match="unfinished run with another dataset"):
        train.train(other, tmp_path / "adapter", recipe(use_small_base))
    with pytest.raises(train.Interrupted, match="without `restart`, to continue"):
        train.train(dataset, tmp_path / "adapter", changed, restart=True, progress=stop_at(2))
    assert train.train(dataset, tmp_path / "adapter", changed).resumed_from in (2, 3)


OTHERS = {
    "recipe": lambda tmp_path: {"training__max_steps": 4},
    "dataset": lambda tmp_path: {"dataset": write_dataset(tmp_path / "other", answer="Mew")},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_finished_adapter_is_said_and_stays_until_a_restart_is_whole(
    tmp_path, dataset, use_small_base, monkeypatch, other
):
    out = tmp_path / "adapter"
    train.train(dataset, out, recipe(use_small_base, training__max_steps=3))
    (out / "README.md").write_text("Mine.")
    manifest = read_json(out / "manifest.json")
    folder.write_json(out / "manifest.json", manifest | {"repo_id": "owner/names"})
    before = folder.file_hashes(out)
    changed = OTHERS[other](tmp_path)
    data, settings = changed.pop("dataset", dataset), recipe(use_small_base, **{"training__max_steps": 3} | changed)
    said = rf"\(other {other}\): 3 steps, README.md changed or added by hand, published as owner/names\. .*`restart=T"
    with monkeypatch.context() as patch:
        # Nothing is looked up for it, or downloaded.
        patch.setattr(bases, "locate_base", None)
        with pytest.raises(InputError, match=said):
            train.train(data, out, settings)
    with pytest.raises(train.Interrupted):
        train.train(data, out, settings, restart=True, progress=stop_at(1))
    assert folder.file_hashes(out) == before
    # The interrupted restart goes on without being asked for again.
    assert train.train(data, out, settings).resumed_from in (1, 2)
    assert (out / "README.md").read_text() != "Mine."


def test_the_same_training_again_is_done_already_unless_it_is_restarted(tmp_path, dataset, use_small_base, monkeypatch):
    out, settings = tmp_path / "adapter", recipe(use_small_base, training__max_steps=3)
    first = train.train(dataset, out, settings)
    (out / "evaluation.json").write_text("{}")
    # As 0.2.0 wrote it, without the settings that came later.
    manifest = read_json(out / "manifest.json")
    del manifest["recipe"]["lora"]["use_dora"]
    folder.write_json(out / "manifest.json", manifest)
    with monkeypatch.context() as patch:
        patch.setattr(train, "prepare_model", None)
        again = train.train(dataset, out, settings)
    assert (again.steps, again.resumed_from, again.validation_loss) == (3, 3, first.validation_loss)
    assert "already; `restart=True` trains it again" in again.notes[0]
    moved = read_json(out / "manifest.json")
    folder.write_json(out / "manifest.json", moved | {"base": moved["base"] | {"content": "other"}})
    with pytest.raises(InputError, match=r"\(other base\): 3 steps, evaluated, evaluation.json changed"):
        train.train(dataset, out, settings)
    anew = train.train(dataset, out, settings, restart=True)
    assert (anew.resumed_from, (out / "evaluation.json").exists()) == (0, False)
    assert f"{out} will be replaced with what was changed or added there by hand: evaluation.json." in anew.notes


def test_the_adapter_is_read_back_before_it_counts(tmp_path, dataset, use_small_base, monkeypatch):
    from safetensors import torch as files

    written = files.load_file
    monkeypatch.setattr(files, "load_file", lambda file: {name: tensor + 1 for name, tensor in written(file).items()})
    with pytest.raises(train.ToolkitError, match="does not hold what was trained"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__max_steps=3))
    assert not (tmp_path / "adapter").exists()
    assert list((tmp_path / "adapter-checkpoints").glob("checkpoint-3"))


def test_the_energy_that_a_gpu_measures_is_summed_over_the_parts_of_a_run(
    tmp_path, dataset, use_small_base, monkeypatch
):
    meter = [1000.0]
    monkeypatch.setattr(progress, "_gpu_joules", lambda: meter[0])

    def consume(where):
        meter[0] += 7
        stop_at(4)(where)

    with pytest.raises(train.Interrupted):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base), progress=consume)
    meter[0] += 5000
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base), progress=consume)
    assert read_json(tmp_path / "adapter" / "manifest.json")["energy_joules"] == 8 * 7


def test_energy_is_measured_by_the_meter_of_the_gpu_or_absent(monkeypatch):
    class NVMLError(Exception):
        pass

    def joules(total):
        nvml = SimpleNamespace(NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda uuid: uuid)
        nvml.nvmlDeviceGetTotalEnergyConsumption = total
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return progress._gpu_joules()

    def unsupported(_):
        raise NVMLError

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert joules(unsupported) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda: SimpleNamespace(uuid="abc"))
    assert joules(lambda gpu: {"GPU-abc": 2_500}[gpu]) == 2.5
    assert joules(unsupported) is None
    training = progress.TrainingState(print, checkpoints.Spent(3.0, 100.0))
    assert training.spent().energy_joules is None


KINDS = {
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "DoRA on 4 bits": {"use_dora": True, "quantization": "nf4"},
    "a norm": {"modules_to_save": ["norm"], "target_modules": ["q_proj"]},
    "embeddings": {"modules_to_save": ["embed_tokens"], "use_dora": True},
    "a head, on 4 bits": {"modules_to_save": ["lm_head"], "quantization": "nf4"},
    "embeddings and head, untied": {"modules_to_save": ["embed_tokens", "lm_head"], "tied": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_plain_peft_answers_as_each_kind_of_adapter_did_in_training_and_each_goes_on_with_the_same_bytes(
    tmp_path, dataset, small_base, monkeypatch, kind
):
    import torch
    from peft import PeftModel

    settings = dict(KINDS[kind])
    quantization = settings.pop("quantization", "none")
    base = small_base if settings.pop("tied", True) else untied(small_base, tmp_path / "untied")
    monkeypatch.setattr("toolkit.model.base.tiny_base_folder", lambda: base)
    lora = {f"lora__{key}": value for key, value in settings.items()}
    # At this rate, whatever is not trained or not loaded is seen.
    chosen = recipe(TINY_BASE_ID, training__max_steps=4, training__quantization=quantization,
                    training__learning_rate=0.02, **lora)  # fmt: skip
    seen, save, ids = {}, saving.save_adapter, torch.tensor([[5, 6, 7, 8]])

    def look(model, *rest):
        with torch.no_grad():
            seen["logits"] = model.eval()(input_ids=ids).logits
        save(model, *rest)

    monkeypatch.setattr(saving, "save_adapter", look)
    train.train(dataset, tmp_path / "whole", chosen)
    precision = loading.Precision(quantization, "float32")
    plain = loading.load_base(bases.LocatedBase(TINY_BASE_ID, None, base), precision)
    before = plain(input_ids=ids).logits
    after = PeftModel.from_pretrained(plain, tmp_path / "whole").eval()(input_ids=ids).logits
    torch.testing.assert_close(after, seen["logits"])
    assert not torch.allclose(after, before, atol=0.01)
    interrupted(dataset, tmp_path / "cut", chosen, at=2)
    assert train.train(dataset, tmp_path / "cut", chosen).resumed_from in (2, 3)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")
    # The other loader compares file and model, and finds nothing that is not finite.
    adapters.load_adapter(tmp_path / "whole")
