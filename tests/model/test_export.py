"""An exported file is the same model to llama.cpp, with the same tokens, or nothing is written."""

import copy
import json
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from click.testing import CliRunner
from tokenizers import Tokenizer, pre_tokenizers

from support.adapters import DESCRIPTIONS, put_on, with_samples, write_manifest_like_train
from support.models import WINDOWED, small_model
from toolkit import cli
from toolkit.core.errors import CheckFailed, EnvironmentLacks, InputError
from toolkit.core.folder import read_json, read_jsonl, read_manifest, write_json, write_jsonl
from toolkit.core.layout import TINY_BASE_ID
from toolkit.model import base as bases
from toolkit.model import chat, export, gguf_writer, llama_cpp, loading, rank

pytest.importorskip("gguf", reason="the package gguf is not installed")
pytest.importorskip("xllamacpp", reason="the package xllamacpp is not installed")

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
FAMILIES = {
    "llama": {"num_key_value_heads": 1},
    "llama, attention with a bias": {"attention_bias": True},
    "llama, positions of Llama 3": {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3}
    },
    "llama, positions divided": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "gemma": {},
    "gemma2": {**WINDOWED, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 2.0},
    "gemma3_text": {
        **WINDOWED,
        "layer_types": ["full_attention", "sliding_attention"],
        "final_logit_softcapping": 2.0,
    },
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": False},
}
CHAT = chat.naming_messages("A small red fox with six tails. 꼬리가 여섯인 여우: 2024")


def strong_model(family, tokenizer, **settings):
    """A small model whose attention, positions, norms and biases all count."""
    kind = family.partition(",")[0]
    settings |= {"query_pre_attn_scalar": 32} if kind in ("gemma2", "gemma3_text") else {}
    tied = {"tie_word_embeddings": kind.startswith("gemma")}
    model = small_model(kind, **{"vocab_size": len(tokenizer), "initializer_range": 0.3, **tied, **settings}).eval()
    for name, weight in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            weight.data += 0.3 * torch.randn_like(weight)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_same_model(family, tmp_path, tokenizer):
    model = strong_model(family, tokenizer, **FAMILIES[family])
    gguf_writer.write_model(tmp_path / "small.gguf", model, tokenizer, "f16", {"name": "small"})
    prompt, names = chat.prompt_ids(tokenizer, CHAT), rank.encode_answers(tokenizer, ["Vulpix", "식스테일"])
    llama = llama_cpp.LlamaCpp(tmp_path / "small.gguf", 256)
    got = torch.tensor([llama.log_likelihood(prompt, name) for name in names])
    export._check_tokens(llama, tokenizer, [{"id": "1", "messages": CHAT}])
    llama.close()
    expected = torch.tensor(rank.log_likelihoods(model, prompt, names))
    # What 16 bits of weights and of the cache round away of some 80 nats.
    torch.testing.assert_close(got, expected, atol=0.15, rtol=0, check_dtype=False)


REFUSED = {
    "mistral": ({}, "A mistral model is not written"),
    "gemma2": ({"query_pre_attn_scalar": 48}, "its attention is scaled by 48"),
    "gemma3_text": ({"query_pre_attn_scalar": 32, "attn_logit_softcapping": 5.0}, "logits are capped by 5.0"),
    "qwen2": ({"use_sliding_window": True}, "its attention sees a window"),
    "qwen3": ({"hidden_act": "gelu"}, "its activation is gelu"),
    "llama": (
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}},
        "scales its positions in a way",
    ),
    "gemma": ({"tie_word_embeddings": False}, "its head is no copy"),
}


@pytest.mark.parametrize("family", REFUSED)
def test_what_llama_cpp_would_compute_in_another_way_is_refused(family):
    settings, said = REFUSED[family]
    with pytest.raises(InputError, match=said) as error:
        gguf_writer.check_family(small_model(family, **settings).config)
    assert "\n" not in str(error.value)


# An adapter, whole.


@pytest.fixture
def exportable(tmp_path, small_base, monkeypatch):
    """An adapter on a base whose attention is scaled as in all Gemma 3, with samples and an answer."""
    base = shutil.copytree(small_base, tmp_path / "base")
    write_json(base / "config.json", read_json(base / "config.json") | {"query_pre_attn_scalar": 64})
    monkeypatch.setattr(bases, "tiny_base_folder", lambda: base)
    folder = put_on(tmp_path / "adapter", base, target_modules=["q_proj", "v_proj", "down_proj"])
    write_manifest_like_train(folder, bases.LocatedBase(TINY_BASE_ID, None, base))
    with_samples(folder)
    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | {"request": chat.REQUEST})
    samples = read_jsonl(folder / "samples.jsonl")
    write_jsonl(folder / "samples.jsonl", [samples[0] | {"answer": "Vulpix"}, *samples[1:]])
    return folder


def test_a_file_has_the_adapters_names_and_likelihoods_and_says_so(exportable, tmp_path):
    result = export.export(exportable, tmp_path / "out", "f16")
    assert (result.file, result.type, result.lora) == ("adapter-F16.gguf", "f16", False)
    assert result.check["differences"] == []
    assert (result.check["samples"], result.check["names"]) == (3, 4)
    assert 0 < result.check["mean"] <= result.check["largest"] < 0.1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "Modelfile",
        "README.md",
        "adapter-F16.gguf",
        "manifest.json",
    ]
    assert result.bytes == (tmp_path / "out" / result.file).stat().st_size
    manifest = read_manifest(tmp_path / "out", "gguf")
    assert manifest["check"] == result.check
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "gave 3 of 3 sample descriptions the same greedy name" in card
    assert f"by {result.check['largest']} at most" in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert (front["library_name"], front["base_model_relation"]) == ("gguf", "finetune")
    assert str(tmp_path) not in card + json.dumps(manifest)


def test_a_smaller_type_is_less_exact_and_smaller(exportable, tmp_path):
    fine, coarse = (export.export(exportable, tmp_path / kind, kind) for kind in ("f16", "q8_0"))
    assert coarse.bytes < 0.7 * fine.bytes
    assert fine.check["mean"] < coarse.check["mean"] < 0.3


def test_a_lora_file_on_its_base_is_the_adapter(exportable, tmp_path):
    result = export.export(exportable, tmp_path / "out", lora=True)
    assert (result.file, result.type, result.check["differences"]) == ("adapter-LoRA-F32.gguf", "f32", [])
    assert result.check["largest"] < 0.1
    modelfile = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert "FROM ./base.gguf\nADAPTER ./adapter-LoRA-F32.gguf\n" in modelfile
    assert "--lora adapter-LoRA-F32.gguf" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_what_a_lora_file_cannot_hold_is_refused(exportable, tmp_path):
    folder = put_on(tmp_path / "dora", bases.tiny_base_folder(), target_modules=["q_proj"], use_dora=True)
    with pytest.raises(InputError, match=r"lora_magnitude_vector, which a LoRA file of llama.cpp cannot"):
        export.export(folder, tmp_path / "out", lora=True)
    assert not (tmp_path / "out").exists()


def test_ollama_is_sent_the_prompt_of_the_training(exportable, tmp_path, tokenizer):
    export.export(exportable, tmp_path / "out", "f16", check=False)
    modelfile = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    template = modelfile.partition('TEMPLATE """')[2].partition('"""')[0]
    sent = template.replace("{{ .Prompt }}", DESCRIPTIONS[0])
    # Ollama puts the begin-of-text token there, as the file says.
    messages = chat.naming_messages(DESCRIPTIONS[0])
    assert tokenizer(sent)["input_ids"] == chat.prompt_ids(tokenizer, messages)
    for line in ("temperature 1", "top_k 4", "num_predict 16", 'stop "<end_of_turn>"', "repeat_penalty 1"):
        assert f"PARAMETER {line}\n" in modelfile
    assert "were not compared" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_a_stop_token_stands_in_the_modelfile_as_it_is(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "convert_ids_to_tokens", lambda _: ["<｜end▁of▁sentence｜>"])
    facts = {"request": None, "lora": False, "file": "names.gguf", "base": {"id": "base"}}
    assert 'PARAMETER stop "<｜end▁of▁sentence｜>"\n' in export._modelfile(tokenizer, facts, None)


def test_a_file_that_is_another_model_is_not_written(exportable, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "merged_model", lambda model: model.unload())
    with pytest.raises(CheckFailed, match="nats from the adapter's, more than f16 explains"):
        export.export(exportable, tmp_path / "out", "f16")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_llama_cpp_reads_as_another_is_not_written(exportable, tmp_path, monkeypatch):
    def with_fewer_merges(path, model, tokenizer, *how):
        other, content = copy.deepcopy(tokenizer), json.loads(tokenizer.backend_tokenizer.to_str())
        content["model"]["merges"] = content["model"]["merges"][:5]
        other._tokenizer = Tokenizer.from_str(json.dumps(content))
        gguf_writer.write_model(path, model, other, *how)

    monkeypatch.setattr(export, "write_model", with_fewer_merges)
    with pytest.raises(CheckFailed, match="makes other tokens of"):
        export.export(exportable, tmp_path / "out", "f16", check=False)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_is_not_known_is_refused(exportable, tmp_path):
    tokenizer = loading.load_tokenizer(exportable)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save_pretrained(exportable)
    with pytest.raises(InputError, match="The tokenizer cuts texts in a way that is not written"):
        export.export(exportable, tmp_path / "out", "f16")


def test_without_llama_quantize_4_bits_are_refused_with_what_installs_it(exportable, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacks, match=r"llama-quantize, which is not on the PATH. Install llama.cpp"):
        export.export(exportable, tmp_path / "out", "q4_k_m")


@pytest.mark.skipif(not shutil.which(export.QUANTIZE), reason="llama-quantize is not on the PATH")
def test_4_bits_are_what_llama_quantize_makes(exportable, tmp_path):
    result = export.export(exportable, tmp_path / "out", "q4_k_m")
    assert result.check["largest"] < export.LIMITS["q4_k_m"]


def test_what_llama_quantize_says_reaches_the_user(exportable, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_quantizer", lambda: "llama-quantize")
    said = subprocess.CompletedProcess([], 1, "", "loading\nfailed to quantize: no room\n")
    monkeypatch.setattr(export.subprocess, "run", lambda *_, **__: said)
    with pytest.raises(InputError, match="llama-quantize failed: failed to quantize: no room"):
        export.export(exportable, tmp_path / "out", "q4_k_m")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named_with_the_line_that_installs_it(exportable, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_cpp.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentLacks, match=r"needs the package gguf.*pip install 'pokepicker-toolkit\[export\]'"):
        export.export(exportable, tmp_path / "out")


def test_a_llama_cpp_that_this_machine_cannot_load_is_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(EnvironmentLacks, match="The package xllamacpp cannot be loaded: "):
        llama_cpp.LlamaCpp(tmp_path / "small.gguf", 64)


def test_the_command_writes_a_folder_and_says_what_differs(exportable, tmp_path):
    command = ["export", str(exportable), str(tmp_path / "out"), "--type", "f16", "--json"]
    ran = CliRunner().invoke(cli.main, command)
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["check"]["samples"] == 3
    ran = CliRunner().invoke(cli.main, [*command[:3], "--lora", "--type", "f16"])
    assert ran.exit_code == 2
    assert "not written as a LoRA file" in ran.output
