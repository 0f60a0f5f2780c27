"""Merging: one plain model that answers as the adapter does, whatever that was put on, and says how it was checked."""

import copy
import json
import re
import shutil

import pytest
import torch
import yaml
from click.testing import CliRunner
from peft import AdaLoraConfig, LoraConfig, get_peft_model

from support.adapters import (
    DESCRIPTIONS,
    make_adapter,
    put_on,
    with_samples,
)
from support.models import small_model
from toolkit import cli
from toolkit.core.errors import CheckFailed, EnvironmentLacks, InputError
from toolkit.core.folder import read_json, read_manifest, sha256_file, write_json
from toolkit.core.layout import ADAPTER_WEIGHTS, DTYPES, TINY_BASE_ID
from toolkit.core.recipe import DecodingSettings, load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import chat, generate, loading, merge


def logits(loaded, tokenizer):
    ids = torch.tensor([chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0]))])
    with torch.no_grad():
        return loaded(input_ids=ids).logits.float()


def load(folder, **how):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **how).eval()


@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_transformers_gives_the_names_of_the_adapter(adapter, tmp_path, dtype):
    counted = []
    result = merge.merge(adapter, tmp_path / "merged", dtype, lambda *told: counted.append(told))
    assert (result.samples, result.differences) == (3, ())
    assert counted == [(what, at, 3) for what in ("adapter", "merged") for at in (1, 2, 3)]
    peft_model, tokenizer, _ = adapters.load_adapter(adapter)
    merged = load(tmp_path / "merged")
    assert merged.dtype == getattr(torch, dtype)
    if dtype == "float32":
        torch.testing.assert_close(logits(merged, tokenizer), logits(peft_model, tokenizer))
        names = [
            generate.greedy_name(loaded, tokenizer, chat.naming_messages(DESCRIPTIONS[0]), DecodingSettings())
            for loaded in (peft_model, merged)
        ]
        assert names[0] == names[1]


def test_a_merged_weight_is_rounded_once(tmp_path, small_base, use_small_base):
    from peft import PeftModel

    folder = put_on(tmp_path / "adapter", small_base, target_modules=["q_proj", "down_proj"])
    plain = loading.load_base(bases.LocatedBase(TINY_BASE_ID, None, small_base), loading.Precision("none", "bfloat16"))
    peft_model = PeftModel.from_pretrained(plain, folder)
    exact = {
        name.removeprefix("base_model.model."): layer.weight.float() + layer.get_delta_weight("default")
        for name, layer in peft_model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }
    merged = dict(merge.merged_model(peft_model).named_parameters())
    assert len(exact) == 2
    for name, weight in exact.items():
        assert torch.equal(merged[f"{name}.weight"], weight.bfloat16()), name


KINDS = {
    "transposed": ("gpt2", LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
    "transposed, biases": ("gpt2", LoraConfig(target_modules=["c_attn"], lora_bias=True, bias="all")),
    "transposed, embeddings": ("gpt2", LoraConfig(target_modules=["wte", "c_fc"], use_dora=True)),
    "experts": ("mixtral", LoraConfig(target_modules=["q_proj"], target_parameters=["experts.gate_up_proj"])),
    "layers repeated": ("llama", LoraConfig(target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])),
    "AdaLoRA": ("llama", AdaLoraConfig(target_modules=["q_proj"], init_r=4, total_step=10)),
}
SMALLEST = {"mixtral": {"num_local_experts": 4}, "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2}}


def random_adapter(family, config):
    config = copy.deepcopy(config)
    config.task_type = "CAUSAL_LM"
    peft_model = get_peft_model(small_model(family, **SMALLEST.get(family, {})), config).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in peft_model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.1
    return peft_model


@pytest.mark.parametrize(("family", "config"), KINDS.values(), ids=KINDS)
@pytest.mark.filterwarnings("ignore")
def test_merged_logits_are_those_of_every_kind_that_changes_weights(family, config):
    ids = torch.tensor([[5, 6, 7, 8]])
    peft_model = random_adapter(family, config)
    with torch.no_grad():
        expected = peft_model(input_ids=ids).logits
        with peft_model.disable_adapter():
            assert not torch.allclose(peft_model(input_ids=ids).logits, expected, atol=1e-4)
        torch.testing.assert_close(merge.merged_model(peft_model)(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (LoraConfig(target_modules=["q_proj"], lora_bias=True), "cannot be merged: .*base layer has no bias"),
        (
            LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], alora_invocation_tokens=[5]),
            "cannot be merged: aLoRA does not",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_no_weights_can_hold_is_refused(config, said):
    with pytest.raises(InputError, match=f"{said}.*Serve it with peft instead"):
        merge.merged_model(random_adapter("llama", config))


def test_embeddings_that_stay_alike_stay_one_matrix(adapter, tmp_path):
    merge.merge(adapter, tmp_path / "merged", "float32")
    merged = load(tmp_path / "merged")
    assert merged.lm_head.weight is merged.get_input_embeddings().weight
    assert merged.config.tie_word_embeddings


def test_the_folder_holds_all_that_a_server_needs(adapter, tmp_path):
    merge.merge(adapter, tmp_path / "merged")
    settings = read_json(tmp_path / "merged" / "generation_config.json")
    tokenizer = loading.load_tokenizer(tmp_path / "merged")
    assert tokenizer.convert_ids_to_tokens(settings["eos_token_id"])[:2] == ["<end_of_turn>", "<eos>"]
    assert settings["do_sample"]
    decoding = load_recipe("demo").decoding.model_dump()
    assert {key: settings[key] for key in decoding} == decoding
    assert tokenizer.chat_template == loading.load_tokenizer(adapter).chat_template
    assert list((tmp_path / "merged").glob("*.safetensors"))
    assert not list((tmp_path / "merged").glob("*.bin"))


def test_the_card_names_adapter_base_licence_and_check(adapter, tmp_path):
    write_json(adapter / "manifest.json", read_json(adapter / "manifest.json") | {"repo_id": "owner/names"})
    merge.merge(adapter, tmp_path / "merged")
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == TINY_BASE_ID
    assert front["base_model_relation"] == "finetune"
    assert (front["library_name"], front["license"]) == ("transformers", "mit")
    assert "owner/names" in card
    assert "gave 3 of 3 sample descriptions the same greedy name" in card
    assert str(tmp_path) not in card
    manifest = read_manifest(tmp_path / "merged", "merged")
    assert manifest["check"] == {"samples": 3, "differences": []}
    assert str(tmp_path) not in json.dumps(manifest)


def test_the_snippet_of_the_card_runs(adapter, tmp_path, monkeypatch, capsys):
    merge.merge(adapter, tmp_path / "merged", "float32")
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tmp_path / "merged", tmp_path / "owner" / "name")
    exec(card.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out.endswith("\n")


def test_an_adapter_without_samples_is_asked_a_few_descriptions(adapter, tmp_path):
    (adapter / "samples.jsonl").unlink()
    assert merge.merge(str(adapter), str(tmp_path / "merged")).samples == len(merge.DESCRIPTIONS)


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_an_adapter_of_another_trainer_is_merged_and_nothing_is_made_up_about_it(tmp_path, small_base, own_tokenizer):
    base = shutil.copytree(small_base, tmp_path / "secret" / "small")
    write_json(base / "generation_config.json", {"max_new_tokens": 99, "eos_token_id": 1})
    folder = put_on(tmp_path / "foreign", base, constant=0.4, target_modules=["q_proj", "down_proj"])
    for file in () if own_tokenizer else [*folder.glob("*token*"), folder / "chat_template.jinja"]:
        file.unlink()
    result = merge.merge(folder, tmp_path / "merged", "float32", base=str(base))
    assert (result.samples, result.differences) == (len(merge.DESCRIPTIONS), ())
    tokenizer = loading.load_tokenizer(tmp_path / "merged")
    peft_model, _, _ = adapters.load_adapter(folder, base=str(base))
    torch.testing.assert_close(logits(load(tmp_path / "merged"), tokenizer), logits(peft_model, tokenizer))
    settings = read_json(tmp_path / "merged" / "generation_config.json")
    assert (settings["max_new_tokens"], "top_k" in settings) == (99, False)
    assert tokenizer.convert_ids_to_tokens(settings["eos_token_id"])[:2] == ["<end_of_turn>", "<eos>"]
    manifest = read_manifest(tmp_path / "merged", "merged")
    assert manifest["adapter"] == {"id": "foreign", "weights": sha256_file(folder / ADAPTER_WEIGHTS)}
    assert manifest["base"] == {"id": "small", "revision": None, "license": "other"}
    assert (manifest["recipe"], manifest["dataset"]) == (None, {})
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert not {"language", "tags", "base_model", "datasets"} & yaml.safe_load(card.split("---\n")[1]).keys()
    assert "gave 4 of 4 descriptions the same first tokens of an answer" in card
    assert not re.search("creature|names and|sampling", card.partition("## What")[0].partition("```python")[0])
    assert all(str(tmp_path) not in file.read_text("utf-8") for file in (tmp_path / "merged").glob("*.[jm][sd]*"))


def other_names(monkeypatch, count):
    """Let the merged model give the first descriptions other names."""
    plain_answerer, answered = merge.transformers_answerer, []

    def other(*arguments):
        plain = plain_answerer(*arguments)

        def answer(messages):
            answered.append(messages)
            return plain(messages) + "x" * (len(answered) <= count)

        return answer

    monkeypatch.setattr(merge, "transformers_answerer", other)


def test_a_name_that_rounding_changed_is_counted_and_shown(adapter, tmp_path, monkeypatch):
    other_names(monkeypatch, 1)
    monkeypatch.setattr(merge, "ALLOWED", 0.4)
    result = merge.merge(adapter, tmp_path / "merged")
    assert [difference["id"] for difference in result.differences] == ["s0"]
    assert "gave 2 of 3" in (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")


def test_too_many_other_names_fail_and_nothing_is_written(adapter, tmp_path, monkeypatch):
    other_names(monkeypatch, 2)
    with pytest.raises(CheckFailed, match=r'2 of 3 samples another name.*more than 25%.*`dtype="float32"`'):
        merge.merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_of_something_else_is_not_replaced_and_nothing_is_loaded(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "load_base", None)
    for out in (adapter, tmp_path):
        with pytest.raises(InputError, match="not a merged folder that pkt wrote"):
            merge.merge(adapter, out)


def test_a_merged_folder_is_replaced(adapter, tmp_path):
    merge.merge(adapter, tmp_path / "merged", "float32")
    assert merge.merge(adapter, tmp_path / "merged", "bfloat16").bytes * 2 == pytest.approx(
        (tmp_path / "merged" / "model.safetensors").stat().st_size * 2, rel=0.1
    )


def test_memory_that_runs_out_while_merging_is_the_machines_lack(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "_merge_exactly", lambda _: torch.empty(1 << 60))
    with pytest.raises(EnvironmentLacks, match="not enough memory"):
        merge.merge(adapter, tmp_path / "merged")


def test_a_disk_that_is_too_small_is_the_machines_lack(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.model.memory.free_disk", lambda _: 10)
    with pytest.raises(EnvironmentLacks, match=r"merged model takes .* free"):
        merge.merge(adapter, tmp_path / "merged")


@pytest.mark.parametrize(
    "raised", [OSError(28, "No space left on device"), "Error while serializing: I/O error: No space left on device"]
)
def test_a_disk_that_fills_up_is_the_machines_lack(adapter, tmp_path, monkeypatch, raised):
    from safetensors import SafetensorError
    from transformers import PreTrainedModel

    def fail(*_, **__):
        raise SafetensorError(raised) if isinstance(raised, str) else raised

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fail)
    with pytest.raises(EnvironmentLacks, match="No space left on device"):
        merge.merge(adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_float16_does_not_hold_is_refused(tmp_path, small_base, use_small_base):
    large = with_samples(make_adapter(tmp_path / "large", small_base))
    with pytest.raises(InputError, match=r'does not fit float16 \(model\..* overflows\).*`dtype="bfloat16"`'):
        merge.merge(large, tmp_path / "merged", "float16")
    assert merge.merge(large, tmp_path / "merged", "bfloat16").samples == 3


@pytest.mark.parametrize("lines", ['{"id": 1}\n', "[]\n", "nonsense\n"])
def test_samples_that_are_none_are_an_input_error(adapter, tmp_path, lines):
    (adapter / "samples.jsonl").write_text(lines)
    with pytest.raises(InputError, match=r"samples\.jsonl"):
        merge.merge(adapter, tmp_path / "merged")


def test_the_command_writes_what_it_says(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.cli.process.silence", lambda: None)
    arguments = ["merge", str(adapter), str(tmp_path / "merged"), "--dtype", "float32"]
    result = CliRunner().invoke(cli.main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["dtype"], said["samples"], said["differences"]) == ("float32", 3, [])
    assert "3 of 3 samples have the adapter's greedy name" in CliRunner().invoke(cli.main, arguments).stderr
