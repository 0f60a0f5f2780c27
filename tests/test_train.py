"""Training: QLoRA for real, on the answer only, and never lost."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from toolkit import bases, chat, checkpoints, model, rows, train
from toolkit.errors import EnvironmentLacks, InputError, ToolkitError
from toolkit.folder import content_hash, file_hashes, read_json, read_jsonl
from toolkit.recipe import load_recipe

CREATURES = {
    "Vulpix": "a red fox with six tails",
    "Squirtle": "a blue turtle with a shell",
    "Pikachu": "a yellow mouse",
}


def write_dataset(folder: Path, splits=("train", "validation", "test"), answer=None) -> rows.LocatedDataset:
    (folder / "data").mkdir(parents=True)
    for split in splits:
        lines = [
            {"messages": chat.with_answer(chat.naming_messages(f"It is {text}, seen in {split} {n}."), answer or name)}
            for name, text in CREATURES.items()
            for n in range(4 if split == "train" else 1)
        ]
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist(lines), folder / "data" / f"{split}-00000-of-00001.parquet"
        )
    return rows.locate_dataset(str(folder))


def recipe(base, **overrides):
    settings = {
        "base": base,
        "training.max_steps": 8,
        "training.batch_size": 4,
        "training.micro_batch_size": 2,
        "training.save_every": 3,
        "training.log_every": 2,
        "training.warmup_steps": 0,
        "lora.r": 4,
    }
    return load_recipe("demo", settings | {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset")


def adapter_bytes(folder: Path) -> dict[str, str]:
    """Hashes of everything that does not tell times: the cards and the manifest do."""
    return {name: digest for name, digest in file_hashes(folder).items() if not name.startswith("README")}


def test_the_adapter_folder_holds_what_peft_needs_and_no_pickle(tmp_path, dataset, use_small_base):
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    names = set(file_hashes(tmp_path / "adapter"))
    needed = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "training_log.jsonl", "README.md"}
    assert needed <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not (tmp_path / "adapter-checkpoints").exists()
    assert result.steps == 8


def test_the_base_is_four_bit_while_training(use_small_base):
    from bitsandbytes.nn import Linear4bit

    loaded = model.load_base(bases.locate_base(use_small_base), model.chosen_precision("nf4"))
    quantised = [module for module in loaded.modules() if isinstance(module, Linear4bit)]
    assert len(quantised) == 7
    assert {module.weight.quant_state.quant_type for module in quantised} == {"nf4"}


def test_the_folder_names_the_base_by_its_id_and_no_path_of_this_machine(tmp_path, dataset, use_small_base, small_base):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    assert read_json(tmp_path / "adapter" / "adapter_config.json")["base_model_name_or_path"] == use_small_base
    for file in (tmp_path / "adapter").rglob("*"):
        if file.is_file():
            assert str(small_base).encode() not in file.read_bytes(), file.name


def test_training_learns(tmp_path, dataset, use_small_base):
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__max_steps=40))
    log = [line for line in read_jsonl(tmp_path / "adapter" / "training_log.jsonl") if "loss" in line]
    assert log[-1]["loss"] < 0.85 * log[0]["loss"]
    assert result.validation_loss < log[0]["loss"]


def test_the_log_has_a_line_for_every_window_and_every_validation(tmp_path, dataset, use_small_base):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    log = read_jsonl(tmp_path / "adapter" / "training_log.jsonl")
    assert [line["step"] for line in log if "loss" in line] == [2, 4, 6, 8]
    assert [line["step"] for line in log if "validation_loss" in line] == [3, 6, 8]


def test_the_same_inputs_give_the_same_bytes(tmp_path, dataset, use_small_base):
    for name in ("one", "two"):
        train.train(dataset, tmp_path / name, recipe(use_small_base))
    assert adapter_bytes(tmp_path / "one") == adapter_bytes(tmp_path / "two")


def test_another_seed_gives_another_adapter(tmp_path, dataset, use_small_base):
    for name, seed in (("one", 1), ("two", 2)):
        train.train(dataset, tmp_path / name, recipe(use_small_base, seed=seed))
    weights = [content_hash(tmp_path / name) for name in ("one", "two")]
    assert weights[0] != weights[1]


KILLED = """
import sys, os, signal
from pathlib import Path
from toolkit import rows, tiny, train, checkpoints
from toolkit.recipe import Recipe
dataset, out, base, settings, where, step = sys.argv[1:]
tiny.base_folder = lambda: Path(base)
def at_step(progress):
    if where == "step" and progress.step == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
mark = checkpoints.mark_whole
def at_mark(checkpoint, seconds):
    if where == "save" and checkpoint.name == f"checkpoint-{step}":
        os.kill(os.getpid(), signal.SIGKILL)
    mark(checkpoint, seconds)
checkpoints.mark_whole = at_mark
train.train(rows.locate_dataset(dataset), Path(out), Recipe.model_validate_json(settings), progress=at_step)
"""


@pytest.mark.parametrize(("where", "step", "resumed"), [("step", 5, 3), ("save", 6, 3), ("step", 1, 0)])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path, dataset, use_small_base, small_base, where, step, resumed
):
    settings = recipe(use_small_base)
    train.train(dataset, tmp_path / "whole", settings)
    paths = [str(dataset.path), str(tmp_path / "cut"), str(small_base)]
    command = [sys.executable, "-W", "ignore", "-c", KILLED, *paths, settings.model_dump_json(), where, str(step)]
    killed = subprocess.run(command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "cut").exists()
    result = train.train(dataset, tmp_path / "cut", settings)
    assert result.resumed_from == resumed
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


def test_an_interrupt_writes_a_checkpoint_and_the_same_command_goes_on(tmp_path, dataset, use_small_base):
    settings = recipe(use_small_base)
    train.train(dataset, tmp_path / "whole", settings)

    def interrupt(progress):
        if progress.step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(train.Interrupted, match="Stopped at step") as caught:
        train.train(dataset, tmp_path / "cut", settings, progress=interrupt)
    assert caught.value.exit_code == 130
    result = train.train(dataset, tmp_path / "cut", settings)
    assert result.resumed_from in (5, 6)
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


def interrupted(dataset, out, settings):
    with pytest.raises(train.Interrupted):
        train.train(
            dataset, out, settings, progress=lambda p: signal.raise_signal(signal.SIGINT) if p.step == 4 else None
        )


def test_a_changed_recipe_is_noticed_and_restart_begins_anew(tmp_path, dataset, use_small_base):
    interrupted(dataset, tmp_path / "adapter", recipe(use_small_base))
    changed = recipe(use_small_base, training__learning_rate=1e-4)
    with pytest.raises(InputError, match="unfinished run with another recipe"):
        train.train(dataset, tmp_path / "adapter", changed)
    assert train.train(dataset, tmp_path / "adapter", changed, restart=True).resumed_from == 0


def test_a_changed_dataset_is_noticed(tmp_path, dataset, use_small_base):
    interrupted(dataset, tmp_path / "adapter", recipe(use_small_base))
    other = write_dataset(tmp_path / "other", answer="Mew")
    with pytest.raises(InputError, match="unfinished run with another dataset"):
        train.train(other, tmp_path / "adapter", recipe(use_small_base))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, dataset, use_small_base, monkeypatch):
    import torch

    monkeypatch.setattr(train, "answer_loss", lambda outputs, labels, **_: outputs.logits.sum() * torch.nan)
    with pytest.raises(ToolkitError, match="loss is nan at step 1"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    assert not (tmp_path / "adapter").exists()


def test_a_row_that_is_too_long_is_named(tmp_path, dataset, use_small_base):
    with pytest.raises(InputError, match=r"Row 0 of train has \d+ tokens, more than max_length = 16"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__max_length=16))


def test_a_dataset_without_rows_is_refused(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset", splits=("test",))
    with pytest.raises(InputError, match="no rows in its train split"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))


def test_paged_adamw_without_a_gpu_says_so(tmp_path, dataset, use_small_base):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EnvironmentLacks, match="needs a CUDA GPU"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__optimizer="paged_adamw_8bit"))


def test_target_modules_that_the_base_lacks_are_an_input_error(tmp_path, dataset, use_small_base):
    with pytest.raises(InputError, match="LoRA does not fit the base"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, lora__target_modules=["query_key_value"]))


def test_a_base_given_as_a_folder_is_refused(small_base):
    with pytest.raises(InputError, match="is a folder"):
        bases.locate_base(str(small_base))


def test_only_marked_checkpoints_count(tmp_path):
    identity = {"recipe": "a", "dataset": "b", "base": "c"}
    assert checkpoints.prepare(tmp_path / "c", identity, restart=False) is None
    for step in (5, 10, 15):
        (tmp_path / "c" / f"checkpoint-{step}").mkdir()
    checkpoints.mark_whole(tmp_path / "c" / "checkpoint-5", 1.5)
    checkpoints.mark_whole(tmp_path / "c" / "checkpoint-10", 3.0)
    newest = checkpoints.prepare(tmp_path / "c", identity, restart=False)
    assert newest == tmp_path / "c" / "checkpoint-10"
    assert checkpoints.seconds_so_far(newest) == 3.0
    assert not (tmp_path / "c" / "checkpoint-15").exists()


def test_the_manifest_tells_what_made_the_adapter(tmp_path, dataset, use_small_base):
    train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    manifest = json.loads((tmp_path / "adapter" / "manifest.json").read_text())
    assert manifest["dataset"]["rows"] == {"train": 12, "validation": 3, "test": 3}
    assert manifest["request"] == chat.REQUEST
    assert manifest["precision"] == {"base": "nf4", "compute": "float32"}
    assert manifest["base"]["architecture"] == "Gemma3ForCausalLM"
    assert manifest["steps"] == 8
    assert manifest["files"] == file_hashes(tmp_path / "adapter")


KILLED_AT_THE_END = """
import sys, os, signal
from pathlib import Path
from toolkit import checkpoints, rows, tiny, train
from toolkit.recipe import Recipe
dataset, out, base, settings, where = sys.argv[1:]
tiny.base_folder = lambda: Path(base)
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "before the folder":
    train.model.save_adapter = kill
else:
    checkpoints.remove = kill
train.train(rows.locate_dataset(dataset), Path(out), Recipe.model_validate_json(settings))
"""


@pytest.mark.parametrize("where", ["before the folder", "after the folder"])
def test_a_run_killed_after_its_last_step_is_not_trained_further(tmp_path, dataset, use_small_base, small_base, where):
    settings = recipe(use_small_base)
    train.train(dataset, tmp_path / "whole", settings)
    arguments = [str(dataset.path), str(tmp_path / "cut"), str(small_base), settings.model_dump_json(), where]
    command = [sys.executable, "-W", "ignore", "-c", KILLED_AT_THE_END, *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    result = train.train(dataset, tmp_path / "cut", settings)
    assert (result.resumed_from, result.steps) == (8, 8)
    assert result.loss is not None
    assert adapter_bytes(tmp_path / "cut") == adapter_bytes(tmp_path / "whole")


def test_micro_batches_train_the_same_adapter_as_whole_batches(tmp_path, dataset, use_small_base):
    from safetensors.torch import load_file

    weights = []
    for micro in (4, 1):
        settings = recipe(use_small_base, training__micro_batch_size=micro, lora__dropout=0.0)
        train.train(dataset, tmp_path / str(micro), settings)
        weights.append(load_file(tmp_path / str(micro) / "adapter_model.safetensors"))
    for name, whole in weights[0].items():
        assert (whole - weights[1][name]).abs().max() < 1e-3, name


def test_the_dataset_is_never_replaced_by_the_adapter(dataset, use_small_base):
    with pytest.raises(InputError):
        train.train(dataset, dataset.path, recipe(use_small_base))


def test_a_damaged_checkpoint_is_said_to_be_one(tmp_path, dataset, use_small_base):
    interrupted(dataset, tmp_path / "adapter", recipe(use_small_base))
    for file in (tmp_path / "adapter-checkpoints").glob("checkpoint-*/adapter_model.safetensors"):
        file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(InputError, match=r"is damaged: .* Give --restart"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))


def test_a_gradient_that_overflowed_leaves_the_log_readable():
    from toolkit.watching import log_lines

    steps = [
        {"step": step, "epoch": 0.1, "learning_rate": 0.1, "loss": 2.0, "grad_norm": norm}
        for step, norm in enumerate([float("inf"), 3.0], start=1)
    ]
    assert log_lines(steps, 2)[0]["grad_norm"] == 3.0
    assert "grad_norm" not in log_lines(steps[:1], 1)[0]


def test_where_the_descriptions_came_from_stays_out_of_the_adapter(tmp_path, dataset, use_small_base):
    settings = recipe(use_small_base, dataset__sources=[{"name": "table", "location": "/home/alice/private.csv"}])
    train.train(dataset, tmp_path / "adapter", settings)
    assert "alice" not in (tmp_path / "adapter" / "manifest.json").read_text()


def test_the_card_counts_the_examples_that_were_seen(tmp_path, dataset, use_small_base):
    # 12 rows in batches of 4: 8 steps are 32 examples; in batches of 8 each epoch ends with one of 4.
    train.train(dataset, tmp_path / "even", recipe(use_small_base))
    assert read_json(tmp_path / "even" / "manifest.json")["examples_seen"] == 32
    train.train(dataset, tmp_path / "odd", recipe(use_small_base, training__batch_size=8, training__micro_batch_size=8))
    assert read_json(tmp_path / "odd" / "manifest.json")["examples_seen"] == 48
