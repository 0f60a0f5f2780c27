import re

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from support.models import small_model
from toolkit.core.errors import InputError
from toolkit.core.layout import ADAPTER_WEIGHTS
from toolkit.model.attach import attach, refuse_misfit

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*tie_word_embeddings",
    "ignore:Setting `save_embedding_layers`",
    "ignore:.*(lora_bias|no tied modules|invalid shape)",
)

BIASED = {"attention_bias": True}
FITTING = {
    "some layers": {"layers_to_transform": [1]},
    "a rank and a factor a layer": {"rank_pattern": {"layers.0.*q_proj": 8}, "alpha_pattern": {"v_proj": 1}},
    "all biases": {"bias": "all"},
    "biases of its layers": {"bias": "lora_only"},
    "a bias of its own": {"lora_bias": True},
    "a whole head": {"modules_to_save": ["lm_head", "norm"]},
    "tied embeddings": {"target_modules": ["embed_tokens"], "ensure_weight_tying": True},
    "replicated layers": {"layer_replication": [[0, 2], [1, 2]]},
}


def saved(folder, config=None, kind=peft.LoraConfig, **base):
    """An adapter that peft alone saved, with everything that it trains moved."""
    chosen = {"target_modules": ["q_proj", "v_proj"]} | ({"r": 2} if kind is peft.LoraConfig else {})
    model = peft.get_peft_model(small_model("llama", **base), kind(task_type="CAUSAL_LM", **chosen | (config or {})))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 3, 4, 5, 6, 7]]), use_cache=False).logits


def renamed(folder, change):
    weights = load_file(folder / ADAPTER_WEIGHTS)
    save_file({change(name): tensor for name, tensor in weights.items() if change(name)}, folder / ADAPTER_WEIGHTS)
    return sorted(weights)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("config", FITTING.values(), ids=FITTING.keys())
def test_what_peft_saves_fits_and_answers_as_it_did(tmp_path, config, tied):
    base = BIASED | {"tie_word_embeddings": tied}
    expected = logits(saved(tmp_path, config, **base))
    model, fit = attach(small_model("llama", **base), tmp_path)
    assert fit.complete, fit
    assert fit.loaded == tuple(sorted(load_file(tmp_path / ADAPTER_WEIGHTS)))
    torch.testing.assert_close(logits(model), expected)


PREFIXES = {
    "compiled": (lambda name: f"_orig_mod.{name}", ("_orig_mod.", "")),
    "distributed": (lambda name: f"module.{name}", ("module.", "")),
    "compiled layers": (lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."), ("_orig_mod.", "")),
    "sharded": (
        lambda name: "_fsdp_wrapped_module." + name.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
        ("_fsdp_wrapped_module.", ""),
    ),
    "without peft's": (lambda name: name.removeprefix("base_model.model."), ("", "base_model.model.")),
    "of another layout": (
        lambda name: name.replace("model.model.layers", "model.model.language_model.layers"),
        ("base_model.model.model.language_model.", "base_model.model.model."),
    ),
}


@pytest.mark.parametrize(("change", "prefix"), PREFIXES.values(), ids=PREFIXES.keys())
def test_names_that_one_prefix_tells_apart_are_refused_with_that_prefix(tmp_path, change, prefix):
    saved(tmp_path)
    names = renamed(tmp_path, change)
    _, fit = attach(small_model("llama"), tmp_path)
    assert not fit.loaded
    assert (fit.prefix, fit.missing) == (prefix, tuple(names))
    with pytest.raises(InputError, match=f"does not fit.*`{re.escape(prefix[0] or prefix[1])}`.*{change(names[0])}"):
        refuse_misfit(attach(small_model("llama"), tmp_path)[1], tmp_path)


def test_a_file_with_some_of_the_layers_is_refused_with_the_first_that_lacks(tmp_path):
    saved(tmp_path)
    renamed(tmp_path, lambda name: name if ".layers.0." in name else "")
    with pytest.raises(InputError, match=r"4 tensors that .* not in the file, first .*layers\.1\.self_attn\.q_proj"):
        refuse_misfit(attach(small_model("llama"), tmp_path)[1], tmp_path)


@pytest.mark.parametrize("lacking", ["modules_to_save", "trainable_token_indices", "bias"])
def test_whole_layers_tokens_and_biases_may_not_lack_either(tmp_path, lacking):
    value = {"modules_to_save": ["lm_head"], "trainable_token_indices": [3], "bias": "all"}[lacking]
    saved(tmp_path, {lacking: value}, **BIASED)
    names = renamed(tmp_path, lambda name: name if "lora_" in name else "")
    _, fit = attach(small_model("llama", **BIASED), tmp_path)
    assert fit.missing == tuple(name for name in names if "lora_" not in name)


def test_names_that_fit_nothing_are_refused_with_the_first(tmp_path):
    saved(tmp_path)
    renamed(tmp_path, lambda name: name.replace(".", "_"))
    with pytest.raises(InputError, match=r"8 of its tensors are nowhere in the model, first base_model_model_model_l"):
        refuse_misfit(attach(small_model("llama"), tmp_path)[1], tmp_path)


def test_an_adapter_of_a_larger_base_is_refused_with_both_shapes(tmp_path):
    saved(tmp_path, hidden_size=32)
    with pytest.raises(InputError, match=r"q_proj\.lora_A\.weight is \[2, 32\] in the file and \[2, 64\] in the model"):
        refuse_misfit(attach(small_model("llama"), tmp_path)[1], tmp_path)
