"""What only a GPU can show: the paged 8-bit optimiser, and training in the GPU's own precision."""

import pytest
import torch
from test_train import recipe, write_dataset

from toolkit import evaluate, train
from toolkit.folder import read_manifest

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
    evaluation = evaluate.evaluate(tmp_path / "adapter", dataset, settings.evaluation, settings.decoding, 7)
    assert evaluation["test"]["rows"] == 3
