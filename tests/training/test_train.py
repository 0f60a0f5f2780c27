"""Training: QLoRA for real, on the answer only, the same bytes from the same inputs."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from support.training import adapter_bytes, recipe, write_dataset
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.folder import file_hashes, read_json, read_jsonl
from toolkit.model import base as bases
from toolkit.model import chat
from toolkit.model.kernels import best_kernels
from toolkit.training import train


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "dataset")


def test_the_adapter_folder_holds_what_peft_needs_and_no_pickle(tmp_path, dataset, use_small_base, small_base):
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    names = set(file_hashes(tmp_path / "adapter"))
    needed = {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "training_log.jsonl", "README.md"}
    assert needed <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert not (tmp_path / "adapter-checkpoints").exists()
    assert result.steps == 8
    # The base by its id, and no path of this machine.
    assert read_json(tmp_path / "adapter" / "adapter_config.json")["base_model_name_or_path"] == use_small_base
    for name in (*names, "manifest.json"):
        assert str(small_base).encode() not in (tmp_path / "adapter" / name).read_bytes(), name


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


def test_the_same_inputs_give_the_same_bytes_and_another_seed_another_adapter(tmp_path, dataset, use_small_base):
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        train.train(dataset, tmp_path / name, recipe(use_small_base, seed=seed))
    one, two, other = (adapter_bytes(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert one["adapter_model.safetensors"] != other["adapter_model.safetensors"]


def test_the_adapter_may_be_trained_into_the_folder_where_one_stands(tmp_path, dataset, use_small_base, monkeypatch):
    (tmp_path / "adapter").mkdir()
    monkeypatch.chdir(tmp_path / "adapter")
    result = train.train(dataset, ".", recipe(use_small_base, training__max_steps=2))
    assert result.adapter == tmp_path / "adapter"
    assert (tmp_path / "adapter" / "manifest.json").is_file()


def test_a_row_that_is_too_long_is_named(tmp_path, dataset, use_small_base):
    with pytest.raises(InputError, match=r"Row 0 of train has \d+ tokens, more than max_length = 16"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__max_length=16))


def test_a_dataset_without_rows_is_refused(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset", splits=("test",))
    with pytest.raises(InputError, match="no rows to train on: its splits are test"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base))


def test_paged_adamw_without_a_gpu_says_so(tmp_path, dataset, use_small_base):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EnvironmentLacks, match="needs a CUDA GPU"):
        train.train(dataset, tmp_path / "adapter", recipe(use_small_base, training__optimizer="paged_adamw_8bit"))


def test_a_base_given_as_a_folder_is_refused(small_base):
    with pytest.raises(InputError, match="is a folder"):
        bases.locate_base(str(small_base))


def test_the_manifest_tells_what_made_the_adapter(tmp_path, dataset, use_small_base):
    result = train.train(dataset, tmp_path / "adapter", recipe(use_small_base))
    manifest = read_json(tmp_path / "adapter" / "manifest.json")
    # 12 rows in batches of 4: 8 steps are 32 examples.
    assert result.epochs == pytest.approx(8 * 4 / 12, abs=0.005)
    assert (manifest["epochs"], manifest["examples_seen"]) == (2.67, 32)
    assert manifest["dataset"]["rows"] == {"train": 12, "validation": 3, "test": 3}
    assert manifest["request"] == chat.REQUEST
    # The demo's base is small: `auto` holds it unquantised, and the manifest says so.
    assert manifest["precision"] == {"base": "none", "compute": "float32", "kernels": best_kernels()}
    assert manifest["recipe"]["training"]["quantization"] == "none"
    assert manifest["base"]["architecture"] == "Gemma3ForCausalLM"
    assert manifest["steps"] == 8
    assert manifest["files"] == file_hashes(tmp_path / "adapter")
    assert "energy_joules" not in manifest


def test_the_adapter_holds_the_names_that_are_held_out_too_and_says_so_where_it_cannot(
    tmp_path, dataset, use_small_base
):
    unseen = Path("data", "unseen-00000-of-00001.parquet")
    others = write_dataset(tmp_path / "others", splits=("unseen",), answer="Ninetales")
    (dataset.path / unseen).write_bytes((others.path / unseen).read_bytes())
    settings = recipe(use_small_base, training__max_steps=1)
    train.train(dataset, tmp_path / "adapter", settings)
    learnt = ["Pikachu", "Squirtle", "Vulpix"]
    assert read_json(tmp_path / "adapter" / "answers.json") == learnt
    assert read_json(tmp_path / "adapter" / "taken_names.json") == sorted([*learnt, "Ninetales"])
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["A fox."]}), dataset.path / unseen)
    notes = train.train(dataset, tmp_path / "second", settings).notes
    assert any("held out cannot be read" in note for note in notes)
    assert read_json(tmp_path / "second" / "taken_names.json") == learnt


def test_the_dataset_is_never_replaced_by_the_adapter(dataset, use_small_base):
    with pytest.raises(InputError):
        train.train(dataset, dataset.path, recipe(use_small_base))


def test_where_the_descriptions_came_from_stays_out_of_the_adapter(tmp_path, dataset, use_small_base):
    settings = recipe(use_small_base, dataset__sources=[{"name": "table", "location": "/home/alice/private.csv"}])
    train.train(dataset, tmp_path / "adapter", settings)
    assert "alice" not in (tmp_path / "adapter" / "manifest.json").read_text()


def test_the_file_holds_what_was_trained_and_nothing_of_the_base(tmp_path, dataset, use_small_base):
    from safetensors.torch import load_file

    # The base's head is its embeddings, so whoever trains these trains that.
    for number, (modules, trained) in enumerate(
        ((["q_proj"], {"q_proj"}), (["q_proj", "embed_tokens"], {"q_proj", "embed_tokens", "lm_head"}))
    ):
        settings = recipe(use_small_base, lora__target_modules=modules, training__max_steps=2)
        train.train(dataset, tmp_path / str(number), settings)
        weights = load_file(tmp_path / str(number) / "adapter_model.safetensors")
        assert all(".lora_" in name for name in weights)
        assert {name.split(".lora_")[0].rpartition(".")[2] for name in weights} == trained
        # Two matrices of rank 4 a module: nothing as large as the embeddings of 64 numbers a token.
        assert all(4 in tensor.shape for tensor in weights.values())


def test_the_last_smaller_batch_of_an_epoch_is_counted_as_such(tmp_path, dataset, use_small_base):
    # In batches of 8 each epoch ends with one of 4.
    train.train(dataset, tmp_path / "odd", recipe(use_small_base, training__batch_size=8, training__micro_batch_size=8))
    assert read_json(tmp_path / "odd" / "manifest.json")["examples_seen"] == 48
