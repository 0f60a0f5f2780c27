"""A GGUF file becomes a base that is the same model, or is refused in one line."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit.core.errors import InputError
from toolkit.model.chat import naming_messages, prompt_ids
from toolkit.model.gguf import LLAMA3, ROPE_FACTORS, SENTENCE, read_gguf, write_base

pytest.importorskip("gguf", reason="the package gguf is not installed")

from support.gguf_files import ARCHITECTURES, speaking_model, write_gguf

CHAT = naming_messages("A small red fox with six tails.")


def imported(file, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    return folder, write_base(read_gguf(file), folder, "owner/small")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_the_base_of_a_file_gives_the_originals_logits(family, tmp_path, tokenizer):
    original = speaking_model(family, tokenizer)
    folder, facts = imported(write_gguf(tmp_path / "small.gguf", original, tokenizer), tmp_path)
    assert facts["architecture"] == type(original).__name__
    assert facts["parameters"] == original.num_parameters()
    assert facts["check"]["loss"] < 0.5 * facts["check"]["chance"]
    read, text = AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids
    assert text(SENTENCE)["input_ids"] == ids[0].tolist()
    assert prompt_ids(text, CHAT) == prompt_ids(tokenizer, CHAT)
    with torch.no_grad():
        expected, got = original(ids).logits.softmax(-1), read(ids).logits.softmax(-1)
    # What 8 bits and bf16 round away.
    assert (expected - got).abs().max() < 0.05


def refused(file, tmp_path):
    with pytest.raises(InputError) as error:
        imported(file, tmp_path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_says_what_it_is(gguf_file, llama):
    read = read_gguf(gguf_file)
    assert (read.name, read.license, read.types, read.quantised) == ("Small", "apache-2.0", ("Q8_0", "F32"), True)
    assert read.numbers == llama.num_parameters()


def test_a_file_that_is_no_gguf_file_is_refused(tmp_path):
    (tmp_path / "text.gguf").write_text("weights")
    assert "is not a GGUF file" in refused(tmp_path / "text.gguf", tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.2, 0.99])
def test_half_a_file_is_refused(tmp_path, gguf_file, share):
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: int(len(content) * share)])
    assert "not a whole GGUF file" in refused(gguf_file, tmp_path)


def test_an_architecture_that_transformers_does_not_read_is_refused(tmp_path, gguf_file):
    gguf_file.write_bytes(gguf_file.read_bytes().replace(b"llama", b"abcde"))
    assert "architecture abcde is not supported" in refused(gguf_file, tmp_path)


def test_a_file_without_a_chat_template_is_refused_before_its_weights_are_read(tmp_path, llama, tokenizer):
    file = write_gguf(tmp_path / "small.gguf", llama, tokenizer, template=False)
    assert f"{file}: The tokenizer has no chat template." in refused(file, tmp_path)
    assert not (tmp_path / "base" / "model.safetensors").exists()


def test_positions_that_transformers_would_read_unscaled_are_refused(tmp_path, llama, tokenizer):
    file = write_gguf(tmp_path / "small.gguf", llama, tokenizer, llama__rope__scaling__type="linear")
    assert "scales its positions (linear)" in refused(file, tmp_path)


def test_tensors_that_transformers_would_leave_out_are_refused(tmp_path, llama, tokenizer):
    bias = {"blk.0.attn_q.bias": np.ones(64, np.float32)}
    assert "numbers" in refused(write_gguf(tmp_path / "small.gguf", llama, tokenizer, extra=bias), tmp_path)


def test_a_model_that_was_read_wrongly_is_refused(tmp_path, tokenizer):
    """A Gemma 2 whose norms were not written as its converter does."""
    model = speaking_model("gemma2", tokenizer)
    file = write_gguf(tmp_path / "small.gguf", model, tokenizer, norm_offset=0)
    assert "no language model" in refused(file, tmp_path)


def test_the_long_context_of_llama_3_is_kept(tmp_path, tokenizer):
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3}
    original = speaking_model("llama", tokenizer, rope_parameters=rope)
    plain = 1 / 10000.0 ** (torch.arange(0, 32, 2) / 32)
    factors = {ROPE_FACTORS: (plain / original.model.rotary_emb.inv_freq).numpy()}
    folder, _ = imported(write_gguf(tmp_path / "small.gguf", original, tokenizer, extra=factors), tmp_path)
    read = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(read.model.rotary_emb.inv_freq, original.model.rotary_emb.inv_freq, rtol=1e-4)
    assert factors[ROPE_FACTORS].max() == pytest.approx(8.0)


def test_another_scaling_than_llama_3s_is_refused(tmp_path, llama, tokenizer):
    factors = {ROPE_FACTORS: np.linspace(1, 3, 16, dtype=np.float32)}
    file = write_gguf(tmp_path / "small.gguf", llama, tokenizer, extra=factors)
    assert "not Llama 3's" in refused(file, tmp_path)
