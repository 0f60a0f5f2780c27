"""Estimates follow from a base's shape: its parameters are those of the real models, its bytes what torch takes."""

from dataclasses import asdict

import pytest
import torch

from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.model import loading
from toolkit.model import memory as requirements
from toolkit.model.memory import (
    KNOWN,
    load_bytes,
    lora_parameters,
    shape_of,
    step_seconds,
    train_bytes,
)

GEMMA_2B = KNOWN["google/gemma-2b-it"]
# What the Hub's pages say; the last of a file of 4.61 GB, two bytes each.
PUBLISHED = {
    "google/gemma-2b-it": 2506172416,
    "google/gemma-3-1b-it": 999885952,
    "google/gemma-2-9b-it": 9241705984,
    "K-intelligence/Midm-2.0-Mini-Instruct": pytest.approx(4.61e9 / 2, rel=2e-3),
}


def without_weights(shape, kind, **settings):
    """A model of that shape that takes no memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.keys * shape.heads // shape.queries,
        head_dim=shape.queries // shape.heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=True,
        pad_token_id=0,
        **settings,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


KINDS = dict(zip(KNOWN, ("gemma", "gemma3_text", "gemma2", "llama"), strict=True))


@pytest.mark.parametrize("base", KNOWN)
def test_a_known_base_has_the_parameters_of_the_real_model(base):
    counted = sum(parameter.numel() for parameter in without_weights(KNOWN[base], KINDS[base]).parameters())
    assert counted == PUBLISHED[base]
    # Norms are not counted, and are nothing beside the rest.
    assert KNOWN[base].parameters == pytest.approx(counted, rel=1e-3)


@pytest.mark.parametrize("base", KNOWN)
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], None])
def test_the_adapter_has_the_parameters_that_peft_makes(base, modules):
    lora = load_recipe("demo", {"lora.r": 6, "lora.target_modules": modules}).lora
    adapted = loading.add_lora(without_weights(KNOWN[base], KINDS[base]), lora, 7)
    made = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert lora_parameters(KNOWN[base], lora) == made


SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 100,
}


def test_the_part_about_text_of_a_model_that_also_sees_is_read():
    assert shape_of({"model_type": "gemma3", "text_config": SIZES}) == shape_of(SIZES)


def test_gemmas_head_is_its_embedding_and_others_say_so():
    assert shape_of(SIZES).embedding == 2 * 64 * 100
    assert shape_of({**SIZES, "tie_word_embeddings": True}).embedding == 64 * 100
    assert shape_of({**SIZES, "model_type": "gemma3_text"}).embedding == 64 * 100


@pytest.mark.parametrize("config", [{}, {**SIZES, "hidden_size": "x"}, {**SIZES, "num_hidden_layers": None}])
def test_a_configuration_that_does_not_say_its_size_gives_no_estimate(config):
    assert shape_of(config) is None


def held_bytes(loaded):
    """Bytes of all tensors of a model, those that 4-bit weights carry beside them included."""
    tensors = list(loaded.parameters())
    states = [state for tensor in tensors if (state := getattr(tensor, "quant_state", None)) is not None]
    beside = [tensor for state in states for tensor in (state.absmax, state.state2.absmax)]
    return sum(tensor.numel() * tensor.element_size() for tensor in [*tensors, *beside])


@pytest.mark.parametrize("quantization", ["nf4", "none"])
def test_a_loaded_base_holds_what_was_estimated(quantization, tmp_path):
    from transformers import GemmaConfig, GemmaForCausalLM

    config = GemmaConfig(vocab_size=500, hidden_size=512, intermediate_size=1024, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=1, head_dim=128, pad_token_id=0)  # fmt: skip
    GemmaForCausalLM(config).save_pretrained(tmp_path)
    loaded = loading.load_base(bases.LocatedBase("a/b", None, tmp_path), loading.Precision(quantization, "float32"))
    expected = load_bytes(shape_of(config.to_dict()), quantization, "float32") - requirements.PROCESS_BYTES
    assert expected == pytest.approx(held_bytes(loaded), rel=0.02)


def kept_for_backward(adapted, tokens):
    """Bytes that torch keeps between the forward and the backward pass, parameters apart."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}
    kept = {}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            # The tensor is held, so that no other takes its place in memory.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids, positions = torch.ones(1, tokens, dtype=torch.long), torch.arange(tokens)[None]
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        adapted(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=torch.tensor([tokens - 1]))
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize(
    ("kind", "capped"), [("gemma", False), ("gemma3_text", False), ("gemma2", True), ("llama", False)]
)
def test_a_training_step_keeps_at_most_what_was_estimated_and_not_much_less(kind, capped):
    shape = requirements._shape(256, 512, 6, 4, key_heads=2, head=64, vocabulary=300, soft_capped=capped)
    small = without_weights(shape, kind).to_empty(device="cpu")
    # With dropout, which keeps an input for each adapted module.
    recipe = load_recipe("demo", {"training.micro_batch_size": 1, "lora.dropout": 0.05})
    adapted = loading.add_lora(small, recipe.lora, 7).train()
    kept = kept_for_backward(adapted, 256)
    assert kept <= 1.05 * requirements._kept_bytes(shape, recipe.training, "float32", 256) <= 1.35 * kept


def training(**changed):
    settings = {f"training.{key}": value for key, value in changed.items()}
    return load_recipe("demo", {"training.micro_batch_size": 4, **settings})


def memory(shape=GEMMA_2B, compute="float32", row_tokens=512, **changed):
    recipe = training(**changed)
    return train_bytes(shape, recipe.lora, recipe.training, compute, row_tokens)


def test_each_way_of_saving_memory_saves_it():
    usual = memory()
    assert memory(micro_batch_size=1) < usual
    assert memory(gradient_checkpointing="on") < usual
    assert memory(optimizer="paged_adamw_8bit") < usual
    assert memory(compute="bfloat16") < usual
    assert memory(row_tokens=100) < usual
    assert memory(quantization="none") > usual


def test_a_micro_batch_that_is_still_to_be_found_counts_as_one():
    assert memory(micro_batch_size="auto") == memory(micro_batch_size=1)


def test_capped_attention_grows_with_the_square_of_the_rows():
    capped = KNOWN["google/gemma-2-9b-it"]
    plain = requirements.Shape(**{**asdict(capped), "soft_capped": False})
    difference = [memory(capped, row_tokens=length) - memory(plain, row_tokens=length) for length in (100, 200)]
    assert difference[1] == pytest.approx(4 * difference[0])


def test_a_step_takes_longer_by_batch_and_base_and_shorter_by_speed():
    settings = training().training
    assert step_seconds(GEMMA_2B, settings, 1e11) == 10 * step_seconds(GEMMA_2B, settings, 1e12)
    assert step_seconds(GEMMA_2B, training(batch_size=32).training, 1e11) == 2 * step_seconds(GEMMA_2B, settings, 1e11)
    assert step_seconds(KNOWN["google/gemma-3-1b-it"], settings, 1e11) < step_seconds(GEMMA_2B, settings, 1e11)
