"""Adapters as other trainers save them: pkt's figures are those of peft and transformers alone."""

import shutil

import peft
import pytest
import torch
from safetensors.torch import save_file

from support.adapters import DESCRIPTIONS, with_samples, write_manifest_like_train
from support.models import untied
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.folder import read_json, write_json
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TINY_BASE_ID
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import chat, loading, merge, rank, saving

pytestmark = pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:Setting `save_embedding_layers`")

CHATML = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NAMES = ["Vulpix", "Squirtle", "식스테일"]
SETTINGS = {
    "lora": {},
    "dora": {"use_dora": True},
    "dora of embeddings": {"use_dora": True, "target_modules": ["q_proj", "embed_tokens"]},
    "rslora": {"use_rslora": True, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"v_proj": 3}},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "biases": {"bias": "all"},
    "embeddings": {"target_modules": ["embed_tokens"]},
    "embeddings and head": {"target_modules": ["embed_tokens", "lm_head"]},
    "whole embeddings": {"modules_to_save": ["embed_tokens", "norm"]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "some tokens": {"trainable_token_indices": [3, 260]},
    "parameters": {"target_parameters": ["up_proj.weight"]},
}
OTHERS = {"ia3": {"peft_type": "IA3", "feedforward_modules": []}, "loha": {"peft_type": "LOHA"}}
ADDED = {
    "chatml": {"added": ["<|im_start|>", "<|im_end|>"]},
    "chatml, embeddings not saved": {"added": ["<|im_start|>", "<|im_end|>"], "save_embedding_layers": False},
    "a pad token": {"added": ["<|pad|>"]},
    "chatml, its tokens trained": {"added": ["<|im_start|>", "<|im_end|>"], "trainable_token_indices": [261, 262]},
    "chatml, dora of embeddings": {
        "added": ["<|im_start|>", "<|im_end|>"],
        "target_modules": ["q_proj", "embed_tokens"],
        "use_dora": True,
    },
    "chatml, all tokens trained": {"added": ["<|im_start|>", "<|im_end|>"], "modules_to_save": ["embed_tokens"]},
    "all tokens trained, head kept tied": {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
}


def trained(
    folder, base, *, added=(), multiple=None, by_hand=False, peft_type="LORA", save_embedding_layers="auto", **given
):
    """An adapter as TRL and peft save it, or a loop by hand; the model and the tokenizer that it was trained as."""
    located = bases.LocatedBase("a/b", None, base)
    tokenizer = loading.load_tokenizer(base)
    plain = loading.load_base(located, loading.Precision("none", "float32"))
    if added:
        tokenizer.add_special_tokens({"additional_special_tokens": added})
        torch.manual_seed(0)
        plain.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple)
        tokenizer.chat_template = CHATML if len(added) > 1 else tokenizer.chat_template
    chosen = {"target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | given
    settings = peft.PeftConfig.from_peft_type(peft_type=peft_type, **chosen, **({} if peft_type == "IA3" else {"r": 2}))
    model = peft.get_peft_model(plain, settings)
    generator = torch.Generator().manual_seed(5)
    for parameter in (each for each in model.parameters() if each.requires_grad):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    if by_hand:
        folder.mkdir()
        weights = peft.get_peft_model_state_dict(model)
        save_file({name: tensor.clone() for name, tensor in weights.items()}, folder / ADAPTER_WEIGHTS)
        settings.save_pretrained(folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=save_embedding_layers)
    tokenizer.save_pretrained(folder)
    named(folder, TINY_BASE_ID)
    return model.eval(), tokenizer


def named(folder, base):
    write_json(folder / ADAPTER_CONFIG, read_json(folder / ADAPTER_CONFIG) | {"base_model_name_or_path": str(base)})


def asked(model, prompt):
    with torch.no_grad():
        return model(input_ids=torch.tensor([prompt]), use_cache=False).logits


def check(folder, plain, tokenizer, tmp_path):
    """What pkt ranks and merges is what a plain model computes."""
    prompt = chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0]))
    model, own, _ = adapters.load_adapter(folder)
    answers = rank.encode_answers(own, NAMES)
    assert chat.prompt_ids(own, chat.naming_messages(DESCRIPTIONS[0])) == prompt
    expected = asked(plain, prompt)
    torch.testing.assert_close(asked(model, prompt), expected, atol=1e-5, rtol=1e-5)
    for ids, score in zip(answers, rank.log_likelihoods(model, prompt, answers), strict=True):
        steps = asked(plain, prompt + ids)[0, len(prompt) - 1 : -1].double().log_softmax(-1)
        assert score == pytest.approx(float(steps.gather(1, torch.tensor(ids)[:, None]).sum()), abs=1e-3)
    write_manifest_like_train(folder, bases.LocatedBase(TINY_BASE_ID, None, bases.tiny_base_folder()))
    with_samples(folder)
    assert merge.merge(folder, tmp_path / "merged", "float32").differences == ()
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(asked(merged, prompt), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("settings", (SETTINGS | OTHERS).values(), ids=(SETTINGS | OTHERS).keys())
def test_figures_are_those_of_peft_alone(tmp_path, small_base, monkeypatch, settings, tied):
    base = small_base if tied else untied(small_base, tmp_path / "base")
    monkeypatch.setattr(bases, "tiny_base_folder", lambda: base)
    _, tokenizer = trained(tmp_path / "adapter", base, **settings)
    shutil.copytree(tmp_path / "adapter", tmp_path / "plain")
    named(tmp_path / "plain", base)
    plain = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32).eval()
    check(tmp_path / "adapter", plain, tokenizer, tmp_path)


@pytest.mark.parametrize("settings", ADDED.values(), ids=ADDED.keys())
def test_added_tokens_load_as_they_were_trained(tmp_path, small_base, use_small_base, settings):
    plain, tokenizer = trained(tmp_path / "adapter", small_base, **settings)
    check(tmp_path / "adapter", plain, tokenizer, tmp_path)


@pytest.mark.parametrize("settings", [ADDED["chatml"], {"target_modules": "all-linear"}], ids=["chatml", "all-linear"])
def test_what_was_loaded_is_saved_again_as_it_was(tmp_path, small_base, use_small_base, settings):
    _, tokenizer = trained(tmp_path / "adapter", small_base, **settings)
    model, _, _ = adapters.load_adapter(tmp_path / "adapter")
    (tmp_path / "again").mkdir()
    saving.save_adapter(model, tokenizer, bases.LocatedBase(TINY_BASE_ID, None, small_base), tmp_path / "again")
    again, _, _ = adapters.load_adapter(tmp_path / "again")
    prompt = chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0]))
    assert asked(again, prompt).equal(asked(model, prompt))


def test_embeddings_padded_beyond_the_tokenizer_load_as_they_were_trained(tmp_path, small_base, use_small_base):
    plain, tokenizer = trained(tmp_path / "adapter", small_base, added=["<|a|>"], multiple=64)
    assert plain.get_input_embeddings().weight.shape[0] > len(tokenizer)
    check(tmp_path / "adapter", plain, tokenizer, tmp_path)


def test_a_loop_by_hand_loads_as_it_was_trained(tmp_path, small_base, use_small_base):
    plain, tokenizer = trained(tmp_path / "adapter", small_base, by_hand=True)
    check(tmp_path / "adapter", plain, tokenizer, tmp_path)


def test_longer_embeddings_without_their_tokenizer_are_refused_with_both_shapes(tmp_path, small_base, use_small_base):
    _, tokenizer = trained(tmp_path / "adapter", small_base, added=["<|a|>", "<|b|>"])
    (tmp_path / "adapter" / "tokenizer_config.json").unlink()
    shapes = rf"\[{len(tokenizer)}, 64\] in the file and \[{len(tokenizer) - 2}, 64\].* save the tokenizer"
    with pytest.raises(InputError, match=shapes):
        adapters.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("settings", [SETTINGS["pissa"], SETTINGS["biases"], ADDED["chatml"]])
def test_the_base_without_an_adapter_is_the_published_one(tmp_path, small_base, use_small_base, settings):
    trained(tmp_path / "adapter", small_base, **settings)
    model, tokenizer = adapters.load_without(tmp_path / "adapter")
    published = loading.load_base(bases.LocatedBase("a/b", None, small_base), loading.Precision("none", "float32"))
    prompt = chat.prompt_ids(loading.load_tokenizer(small_base), chat.naming_messages(DESCRIPTIONS[0]))
    assert chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0])) == prompt
    assert asked(model, prompt).equal(asked(published, prompt))


def test_layers_that_a_family_does_not_bear_twice_are_one_line(tmp_path, small_base, use_small_base):
    trained(tmp_path / "adapter", small_base, layer_replication=[[0, 1], [0, 1]])
    with pytest.raises(InputError, match="cannot be asked on its base: list index out of range"):
        adapters.load_adapter(tmp_path / "adapter")


@pytest.fixture
def published(tmp_path, small_base, monkeypatch):
    """A base that is published in 4 bits, whatever is asked for."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    held = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_compute_dtype=torch.float32)
    base = shutil.copytree(small_base, tmp_path / "published")
    AutoModelForCausalLM.from_pretrained(small_base, quantization_config=held, device_map="cpu").save_pretrained(base)
    monkeypatch.setattr(bases, "tiny_base_folder", lambda: base)
    return base


@pytest.mark.parametrize("asked_for", ["none", "nf4"])
def test_a_base_published_in_4_bits_is_held_as_it_is_published(tmp_path, published, asked_for):
    expected, tokenizer = trained(tmp_path / "adapter", published)
    model, _, precision = adapters.load_adapter(tmp_path / "adapter", asked_for)
    assert (precision.base, loading.precision_facts(precision)["base"]) == ("fp4", "fp4")
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    assert (layer.weight.quant_type, layer.support_avx512bf16_for_cpu) == ("fp4", False)
    prompt = chat.prompt_ids(tokenizer, chat.naming_messages(DESCRIPTIONS[0]))
    assert asked(model, prompt).equal(asked(expected, prompt))
    assert not asked(adapters.load_without(tmp_path / "adapter", asked_for)[0], prompt).equal(asked(expected, prompt))


def test_into_a_base_published_in_4_bits_nothing_is_merged(tmp_path, published):
    trained(tmp_path / "adapter", published)
    write_manifest_like_train(tmp_path / "adapter", bases.LocatedBase(TINY_BASE_ID, None, published))
    with pytest.raises(InputError, match="quantised where it is published"):
        merge.merge(tmp_path / "adapter", tmp_path / "merged")


def test_pissa_on_a_quantised_base_is_one_line(tmp_path, small_base, use_small_base):
    trained(tmp_path / "adapter", small_base, init_lora_weights="pissa")
    with pytest.raises(InputError, match=r"begun by PiSSA, from unquantised weights.*`quantization=\"none\"`"):
        adapters.load_adapter(tmp_path / "adapter", "nf4")


def test_a_start_that_needs_a_gpu_is_said_to_need_one(tmp_path, small_base, use_small_base, monkeypatch):
    trained(tmp_path / "adapter", small_base)
    started = {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4, "loftq_iter": 1}}
    write_json(tmp_path / "adapter" / ADAPTER_CONFIG, read_json(tmp_path / "adapter" / ADAPTER_CONFIG) | started)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EnvironmentLacks, match="LoftQ, which peft computes on a GPU only"):
        adapters.load_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors", "new"])
def test_a_base_quantised_by_a_library_that_is_not_here_is_one_line(tmp_path, small_base, method):
    base = shutil.copytree(small_base, tmp_path / "base")
    write_json(
        base / "config.json", read_json(base / "config.json") | {"quantization_config": {"quant_method": method}}
    )
    located = bases.LocatedBase("a/b", None, base)
    with pytest.raises(InputError, match=f"(?s)base a/b .*{method}"):
        loading.load_base(located, loading.chosen_precision(located, "none"))
