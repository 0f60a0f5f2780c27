"""Rows that share what prompts share, with logits at the supervised positions only: the mathematics of full passes."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from support.models import FAMILIES, SMALL, WINDOWED, family_model, small_model
from toolkit.model.chat import Example
from toolkit.training import packing


def examples():
    """A tree of prompts: one that begins another, two that part in a common beginning, one that shares nothing."""
    generator = torch.Generator().manual_seed(1)

    def some(count):
        return torch.randint(3, 97, (count,), generator=generator).tolist()

    opening, turn, other = some(6), some(5), some(7)
    return [
        Example([*opening, *turn, *some(6), *(answer := some(3))], 17),
        Example([*opening, *turn, *answer], 11),
        Example([*opening, *some(4), *some(3)], 10),
        Example([*other, *some(2)], 7),
        Example([*opening, *turn, *some(2)], 11),
    ]


def wide_model(family):
    """Of a family, with windows that hold the examples: a mask stands for all layers."""
    return small_model(family, **FAMILIES[family] | {"vocab_size": 300, "sliding_window": 64})


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
    inputs, answers = packing.collate(batch, model)
    return packing.answer_loss(model(**inputs).logits, answers)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return gradients_of(model)


def gradients_of(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


def assert_equal_to_plain(model):
    plain = plain_loss(model, examples())
    plain_gradients = gradients(model, plain)
    packed = packed_loss(model, examples())
    torch.testing.assert_close(packed, plain, rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients(model, packed), plain_gradients, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_the_plain_computation(family):
    assert_equal_to_plain(wide_model(family))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_so_they_do_whatever_computes_the_attention_and_to_the_last_digits_but_one(attention):
    model = wide_model("llama")
    model.set_attn_implementation(attention)
    assert ("key_blocks" in packing.collate(examples(), model)[0]) == (attention == "sdpa")
    plain = gradients(model, plain_loss(model, examples()))
    packed = gradients(model, packed_loss(model, examples()))
    assert (packed - plain).norm() <= 2e-6 * plain.norm()


def test_what_prompts_share_is_read_once_and_answers_are_their_own():
    model, (first, *_) = wide_model("llama"), examples()
    rows = [packing.collate([first] * count, model)[0] for count in (1, 2, 9)]
    # 16 tokens of the prompt; its last one and two of the answer for each of nine: 43 nodes of 171 tokens.
    assert [row["input_ids"].shape[1] for row in rows] == [19, 32, 64]
    assert [int((row["input_ids"] != 0).sum()) for row in rows] == [19, 16 + 2 * 3, 16 + 9 * 3]
    assert len(set(rows[2]["logits_to_keep"].tolist())) == len(rows[2]["logits_to_keep"]) == 27
    assert "attention_mask" not in rows[0]


def test_the_nodes_that_pad_a_row_count_for_nothing(monkeypatch):
    model = wide_model("gemma3_text")
    losses = []
    for multiple in (64, 192):
        monkeypatch.setattr(packing, "MULTIPLE", multiple)
        loss = packed_loss(model, examples())
        losses.append((loss.detach(), gradients(model, loss)))
    (loss, gradient), (padded_loss, padded_gradient) = losses
    torch.testing.assert_close(padded_loss, loss, rtol=1e-6, atol=0)
    assert (padded_gradient - gradient).norm() <= 2e-6 * gradient.norm()


def test_so_they_do_where_layers_share_keys_and_values():
    # The small models of Gemma 4. In double precision, because gradients near 10 round by more than 1e-5.
    layers = {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "layer_types": WINDOWED["layer_types"] * 2}
    layers["sliding_window"] = 64
    model = small_model("gemma4_text", vocab_size=300, **FAMILIES["gemma4_text"] | layers)
    assert_equal_to_plain(model.double())


@pytest.mark.parametrize("family", ["gemma3", "gemma4"])
def test_so_they_do_in_a_model_that_also_sees_pictures(family):
    # What AutoModelForCausalLM makes of the larger Gemmas.
    eyes = {
        "model_type": {"gemma3": "siglip_vision_model", "gemma4": "gemma4_vision"}[family],
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "head_dim": 16,
        "num_key_value_heads": 2,
    }
    text = f"{family}_text"
    words = SMALL | FAMILIES[text] | {"vocab_size": 300, "model_type": text, "sliding_window": 64}
    marks = {"image_token_id": 298, "boi_token_id": 297, "eoi_token_id": 296}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](text_config=words, vision_config=eyes, audio_config=None, **marks)
    assert_equal_to_plain(AutoModelForCausalLM.from_config(config))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3)])
def test_accumulated_micro_batches_have_the_gradients_of_the_whole_batch(family, sizes):
    # One at a time, a window may be shorter than an example.
    model = family_model(family) if set(sizes) == {1} else wide_model(family)
    whole = plain_loss(model, examples())
    whole_gradients = gradients(model, whole)
    supervised = sum(len(example.answer_ids) for example in examples())
    model.zero_grad()
    losses, rest = [], examples()
    # Pieces have different numbers of supervised tokens: a mean of means would weigh some too much.
    for size in sizes:
        inputs, answers = packing.collate(rest[:size], model)
        rest = rest[size:]
        loss = packing.answer_loss(model(**inputs).logits, answers, supervised)
        loss.backward()
        losses.append(loss.detach())
    torch.testing.assert_close(sum(losses), whole.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradients_of(model), whole_gradients, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_computed_at_the_supervised_positions_only(family):
    model = wide_model(family)
    supervised = sum(len(example.answer_ids) for example in examples())
    assert model(**packing.collate(examples(), model)[0]).logits.shape == (1, supervised, 300)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_has_of_its_own_is_switched_on_here(family):
    config = family_model(family).config
    assert set(FAMILIES[family]) <= set(type(config)().to_dict())
    assert {name: getattr(config, name) for name in FAMILIES[family]} == FAMILIES[family]
    window = FAMILIES[family].get("sliding_window")
    assert window is None or window < max(len(example.input_ids) for example in examples())


def test_the_summed_loss_is_that_of_all_tokens_however_many_are_read_at_once():
    model = small_model("gemma3_text").train()
    tokens = sum(len(example.answer_ids) for example in examples())
    assert packing.summed_loss(model, examples(), at_once=2) / tokens == pytest.approx(
        plain_loss(model, examples()).item(), abs=1e-5
    )
    assert model.training


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_keep_the_examples_of_a_row_apart_are_known_as_such(family):
    assert packing.packs_exactly(family_model(family))


@pytest.mark.parametrize("family", ["bloom", "mamba", "qwen3_next"])
def test_families_whose_examples_see_each_other_or_that_take_no_mask_are_found(family):
    assert not packing.packs_exactly(small_model(family))


def test_memory_that_runs_out_while_a_family_is_tried_says_nothing_about_the_family(monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(packing, "collate", fail)
    with pytest.raises(torch.OutOfMemoryError):
        packing.packs_exactly(small_model("llama"))


LENGTHS = [
    Example([3 + (7 * place + length) % 90 for place in range(length)], length - 3) for length in (33, 20, 12, 7)
]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_that_compute_in_a_row_as_alone_are_known_as_such(family):
    assert packing.packs_as_alone(wide_model(family).train(), LENGTHS, "float32")


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_in_bf16_rows_round_but_are_the_same(family):
    model = wide_model(family).bfloat16()
    assert packing.packs_as_alone(model, LENGTHS, "bfloat16")
    assert packing.packs_exactly(model)
    assert packing.summed_loss(model, LENGTHS) == pytest.approx(packing.summed_loss(model.float(), LENGTHS), rel=2e-2)


@pytest.mark.parametrize("family", [family for family, settings in FAMILIES.items() if "sliding_window" in settings])
def test_windows_shorter_than_an_example_are_found(family):
    assert not packing.packs_as_alone(family_model(family), LENGTHS, "float32")


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        # Longer than in any sequence, shorter than the row.
        (
            "llama4_text",
            {
                "attention_chunk_size": 40,
                "floor_scale": 8,
                "num_hidden_layers": 4,
                "no_rope_layers": [1, 1, 1, 0],
                "layer_types": [*["chunked_attention"] * 3, "full_attention"],
                "intermediate_size_mlp": 64,
                "moe_layers": [0, 1],
            },
        ),
        ("llama", {"max_position_embeddings": 16, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}),
    ],
)
def test_families_that_compute_otherwise_from_a_length_on_are_found_at_that_length(family, settings):
    model = small_model(family, **settings)
    assert packing.packs_exactly(model)
    assert not packing.packs_as_alone(model, LENGTHS, "float32")
    assert packing.packs_as_alone(model, [Example([5, 6, 7], 1)] * 2, "float32")


def test_a_family_whose_positions_begin_elsewhere_is_found():
    assert not packing.packs_as_alone(small_model("roberta", pad_token_id=1, is_decoder=True), LENGTHS, "float32")


# The loss over a large vocabulary is PyTorch's own, in value and gradient, with no second copy of the logits.


def summed(logits, answers):
    return packing.answer_loss(logits[None], answers, 1)


def both_ways(kind, *, capped=False, rows=37, words=501):
    """Loss and gradient of a head's weights, by PyTorch's cross-entropy and by ours."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 16, generator=generator).to(kind)
    targets = torch.randint(0, words, (rows,), generator=generator)
    initial = torch.randn(words, 16, generator=generator).to(kind)

    def of(loss):
        weights = initial.clone().requires_grad_()
        logits = hidden @ weights.T
        total = loss(torch.tanh(logits / 3) * 3 if capped else logits, targets) / rows
        total.backward()
        return total.detach(), weights.grad

    return of(lambda logits, right: cross_entropy(logits.float(), right, reduction="sum")), of(summed)


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("at_once", [1, 501 * 5, 2**20])
def test_loss_and_gradient_are_those_of_pytorch(monkeypatch, at_once, capped):
    monkeypatch.setattr(packing, "AT_ONCE", at_once)
    (loss, gradient), (our_loss, our_gradient) = both_ways(torch.float32, capped=capped)
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_gradient, gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_in_half_precision_too_the_loss_is_computed_in_float32(kind):
    (loss, gradient), (our_loss, our_gradient) = both_ways(kind)
    assert our_loss.dtype == torch.float32
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_gradient, gradient, rtol=2e-2, atol=1e-4)


def test_logits_that_would_overflow_have_a_finite_loss():
    logits = torch.tensor([[1e30, -1e30, 0.0]], requires_grad=True)
    loss = summed(logits * 1.0, torch.tensor([0]))
    loss.backward()
    assert loss == 0
    assert logits.grad.tolist() == [[0.0, 0.0, 0.0]]


def test_the_gradient_lies_where_the_logits_were_and_is_never_lost_in_silence():
    leaf = torch.randn(4, 9, requires_grad=True)
    logits, kept = leaf * 1.0, []
    logits.register_hook(kept.append)
    place = logits.data_ptr()
    summed(logits, torch.tensor([1, 2, 3, 4])).backward()
    assert kept[0].data_ptr() == place
    # The gradient of exp is computed from its output.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        summed(leaf.exp(), torch.tensor([1, 2, 3, 4])).backward()
