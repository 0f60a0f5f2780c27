"""What only a GPU can show: the paged 8-bit optimiser, the GPU's own precision, and what fits its memory."""

import pytest
import torch

from support.training import recipe, write_dataset
from toolkit.core.folder import read_manifest
from toolkit.evaluation import evaluate
from toolkit.model import loading
from toolkit.training import packing, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and this machine has none"),
]


def test_a_training_with_paged_8_bit_adamw_learns_and_is_evaluated(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset")
    settings = recipe(use_small_base, training__optimizer="paged_adamw_8bit", training__max_steps=40)
    result = train.train(dataset, tmp_path / "adapter", settings)
    assert result.loss < 6
    assert read_manifest(tmp_path / "adapter", "adapter")["precision"]["compute"] in ("bfloat16", "float16")
    evaluation = evaluate.evaluate(tmp_path / "adapter", dataset, recipe=settings)
    assert evaluation["test"]["rows"] == 3


def test_the_whole_batch_goes_through_at_once_where_it_fits(tmp_path, use_small_base):
    dataset = write_dataset(tmp_path / "dataset")
    settings = recipe(use_small_base, training__micro_batch_size="auto")
    result = train.train(dataset, tmp_path / "adapter", settings)
    manifest = read_manifest(tmp_path / "adapter", "adapter")
    assert (manifest["micro_batch_size"], manifest["gradient_checkpointing"]) == (4, False)
    assert result.notes == ()


def test_a_step_that_really_runs_out_of_memory_is_taken_in_smaller_pieces(tmp_path, use_small_base, monkeypatch):
    answer_loss, tried = packing.answer_loss, []

    def too_much_at_first(logits, answers, supervised=None):
        tried.append(1)
        if len(tried) == 2:
            torch.empty(2**50, device="cuda")
        return answer_loss(logits, answers, supervised)

    monkeypatch.setattr(packing, "answer_loss", too_much_at_first)
    settings = recipe(use_small_base, training__micro_batch_size=4)
    result = train.train(write_dataset(tmp_path / "dataset"), tmp_path / "adapter", settings)
    assert result.notes == (
        "4 examples at once did not fit into memory: 2 at once from here on, with the same result.",
    )


def test_fp16_with_gradient_scaling_learns(tmp_path, use_small_base, monkeypatch):
    monkeypatch.setattr(loading, "compute_dtype", lambda: "float16")
    settings = recipe(use_small_base, training__max_steps=40)
    result = train.train(write_dataset(tmp_path / "dataset"), tmp_path / "adapter", settings)
    assert read_manifest(tmp_path / "adapter", "adapter")["precision"]["compute"] == "float16"
    assert result.loss < 6
