"""Packed rows with logits at the supervised positions only are the same mathematics as one full pass a sequence."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from toolkit import packing
from toolkit.chat import Example

FAMILIES = ["gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "llama", "mistral"]
SMALL = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 128,
}


def small_model(family, **settings):
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**SMALL, **settings)
    return AutoModelForCausalLM.from_config(config)


def examples():
    generator = torch.Generator().manual_seed(1)
    lengths = [(12, 9), (7, 3), (20, 15)]
    return [Example(torch.randint(3, 97, (length,), generator=generator).tolist(), start) for length, start in lengths]


def plain_loss(model, batch):
    """Each sequence in a pass of its own, full logits, everything but the answer ignored."""
    total, count = 0.0, 0
    for example in batch:
        ids = torch.tensor([example.input_ids])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        labels = ids[0, 1:].clone()
        labels[: example.answer_start - 1] = -100
        total = total + torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=-100, reduction="sum")
        count += int((labels != -100).sum())
    return total / count


def packed_loss(model, batch):
    inputs = packing.collate(batch)
    labels = inputs.pop("labels")
    return packing.answer_loss(model(**inputs), labels)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_the_plain_computation(family):
    model = small_model(family)
    plain = plain_loss(model, examples())
    plain_gradients = gradients(model, plain)
    packed = packed_loss(model, examples())
    torch.testing.assert_close(packed, plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients(model, packed), plain_gradients, rtol=0, atol=1e-5)


def test_the_trainer_counts_every_supervised_token_of_a_batch():
    labels = packing.collate(examples())["labels"]
    # The Trainer counts `labels[..., 1:]` that are not ignored.
    assert int((labels[..., 1:] != packing.IGNORED).sum()) == sum(len(example.answer_ids) for example in examples())


def test_micro_batches_add_up_to_the_loss_of_the_whole_batch():
    model = small_model("gemma3_text")
    batch = examples()
    count = sum(len(example.answer_ids) for example in batch)
    parts = []
    for example in batch:
        inputs = packing.collate([example])
        labels = inputs.pop("labels")
        parts.append(packing.answer_loss(model(**inputs), labels, num_items_in_batch=count))
    torch.testing.assert_close(sum(parts), packed_loss(model, batch), rtol=0, atol=1e-5)


def test_the_mean_loss_weighs_tokens_not_batches(monkeypatch):
    model = small_model("gemma3_text")
    monkeypatch.setattr(packing, "VALIDATION_BATCH", 2)
    assert packing.mean_loss(model, examples()) == pytest.approx(plain_loss(model, examples()).item(), abs=1e-5)


def test_the_mean_loss_leaves_the_model_in_the_mode_it_was_in():
    model = small_model("gemma3_text")
    packing.mean_loss(model.train(), examples())
    assert model.training
