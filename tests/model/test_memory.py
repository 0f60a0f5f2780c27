"""What a base needs follows from its configuration, and running out of memory or disk is one clear error."""

import errno

import pytest
import torch
from transformers import CONFIG_MAPPING

from support.models import FAMILIES, SMALL, small_model
from toolkit.core.errors import EnvironmentLacks, InputError
from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.model import loading, memory
from toolkit.model.doctor import KNOWN
from toolkit.model.memory import (
    Machine,
    chosen_quantization,
    disk_errors,
    free_disk,
    main_memory,
    memory_errors,
    size_of,
    train_bytes,
)

GB = 10**9
# What the Hub's pages say; the last of a file of 4.61 GB, two bytes each.
PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134515008,
    "google/gemma-2b-it": 2506172416,
    "google/gemma-3-1b-it": 999885952,
    "google/gemma-2-9b-it": 9241705984,
    "K-intelligence/Midm-2.0-Mini-Instruct": pytest.approx(4.61e9 / 2, rel=2e-3),
}


def known(base):
    return size_of(bases.config_of(base, KNOWN[base]))


@pytest.mark.parametrize("base", KNOWN)
def test_the_bases_of_the_recipes_have_the_parameters_of_the_real_models(base):
    assert known(base).parameters == PUBLISHED[base]


@pytest.mark.parametrize("family", [*FAMILIES, "mixtral", "mamba", "gpt2", "gpt_oss"])
def test_the_size_of_any_family_is_that_of_its_model(family):
    settings = SMALL | {"vocab_size": 300} | FAMILIES.get(family, {})
    found = size_of(CONFIG_MAPPING[family](**settings))
    assert found.parameters == sum(parameter.numel() for parameter in small_model(family, **settings).parameters())
    assert found.layers == 2


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"use_dora": True},
        {"modules_to_save": ["embed_tokens", "norm"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"modules_to_save": ["mlp"], "target_modules": ["q_proj"], "use_rslora": True},
    ],
)
def test_what_is_trained_is_counted_with_its_gradients_and_the_state_of_adam(settings, tied):
    model = small_model("gemma", tie_word_embeddings=tied)
    base = size_of(model.config)
    recipe = load_recipe("demo", {"lora.r": 6} | {f"lora.{key}": value for key, value in settings.items()})
    adapted = loading.add_lora(model, recipe.lora, 7)
    made = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    usual, paged = (
        train_bytes(base, load_recipe(recipe.model_dump(), changed), "float32", "none")
        for changed in ({}, {"training.optimizer": "paged_adamw_8bit"})
    )
    assert usual - paged == 6 * made


REFUSED = {
    "no such module": ({"modules_to_save": ["tokens"]}, r"no module .* of that name\. .*: down_proj, embed_tokens"),
    "no weights": ({"modules_to_save": ["rotary_emb"]}, "no module with weights"),
    "LoRA within": ({"modules_to_save": ["mlp"]}, r"names model\.layers\.0\.mlp, and .*gate_proj is .* another way"),
    "whole within": (
        {"modules_to_save": ["mlp", "up_proj"], "target_modules": ["q_proj"]},
        "up_proj is .* another way",
    ),
    "4 bits": ({"modules_to_save": ["mlp"], "target_modules": ["q_proj"], "quantization": "nf4"}, "is in 4 bits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_modules_that_cannot_be_trained_whole_are_refused_before_the_base_is_downloaded_and_on_it(tmp_path, case):
    settings, said = REFUSED[case]
    given = {f"{'training' if key == 'quantization' else 'lora'}.{key}": value for key, value in settings.items()}
    recipe = load_recipe("demo", {"training.quantization": "none"} | given)
    model = small_model("gemma")
    with pytest.raises(InputError, match=said):
        train_bytes(size_of(model.config), recipe, "float32", recipe.training.quantization)
    model.save_pretrained(tmp_path)
    precision = loading.Precision(recipe.training.quantization, "float32")
    loaded = loading.load_base(bases.LocatedBase("a/b", None, tmp_path), precision)
    with pytest.raises(InputError, match=said):
        loading.add_lora(loaded, recipe.lora, 7)


def test_a_name_means_the_modules_that_are_called_so_and_a_recipe_stays_as_it_was():
    recipe = load_recipe("demo", {"lora.modules_to_save": ["norm"]})
    adapted = loading.add_lora(small_model("gemma"), recipe.lora, 7)
    whole = {name for name, each in adapted.named_parameters() if each.requires_grad and "lora_" not in name}
    assert whole == {"base_model.model.model.norm.modules_to_save.default.weight"}
    # peft itself replaces a tied head by its embeddings in the list.
    recipe = load_recipe("demo", {"lora.modules_to_save": ["lm_head"]})
    loading.add_lora(small_model("gemma", tie_word_embeddings=True), recipe.lora, 7)
    assert recipe.lora.modules_to_save == ["lm_head"]


def test_what_is_trained_whole_is_trained_in_float32_whatever_the_base_is_in():
    recipe = load_recipe("demo", {"lora.modules_to_save": ["embed_tokens"], "lora.use_dora": True})
    adapted = loading.add_lora(small_model("gemma").bfloat16(), recipe.lora, 7)
    assert {each.dtype for each in adapted.parameters() if each.requires_grad} == {torch.float32}


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
    expected = memory.load_bytes(size_of(config), quantization, "float32") - memory.PROCESS_BYTES
    assert expected == pytest.approx(held_bytes(loaded), rel=0.02)


def test_each_way_of_saving_memory_saves_it():
    base = known("google/gemma-2b-it")

    def needed(compute="float32", quantization="nf4", **changed):
        settings = {f"training.{key}": value for key, value in changed.items()}
        return train_bytes(base, load_recipe("demo", settings), compute, quantization)

    usual = needed(gradient_checkpointing="off")
    assert needed(gradient_checkpointing="on") < usual
    assert needed(gradient_checkpointing="off", optimizer="paged_adamw_8bit") < usual
    assert needed(gradient_checkpointing="off", quantization="none") > usual
    assert needed(quantization="none", compute="bfloat16") < needed(quantization="none")


@pytest.mark.parametrize(
    ("asked", "memory", "compute", "held"),
    [
        # By the estimate, gemma-2b-it takes 11 GB to be trained in float32 and 6 GB in bfloat16.
        ("auto", 24 * GB, "float32", "none"),
        ("auto", 16 * GB, "float32", "nf4"),
        ("auto", 16 * GB, "bfloat16", "none"),
        ("auto", 8 * GB, "bfloat16", "nf4"),
        ("nf4", 80 * GB, "float32", "nf4"),
        ("none", 8 * GB, "float32", "none"),
    ],
)
def test_4_bits_are_chosen_only_where_the_unquantised_base_takes_more_than_half_of_the_memory(
    asked, memory, compute, held
):
    recipe = load_recipe("demo", {"training.quantization": asked})
    assert chosen_quantization(known("google/gemma-2b-it"), recipe, Machine(None, memory, compute, "cpu")) == held


def test_dora_on_4_bits_keeps_a_weight_in_float32_where_dropout_needs_it_again():
    base = known("google/gemma-2b-it")
    plain, dora, without_dropout = (
        train_bytes(base, load_recipe("demo", {f"lora.{key}": value for key, value in lora.items()}), "bfloat16", "nf4")
        for lora in ({}, {"use_dora": True, "dropout": 0.05}, {"use_dora": True, "dropout": 0})
    )
    # The widest matrix of Gemma 2B takes 2,048 numbers to 16,384 and back.
    assert without_dropout - plain > 4 * 16384 * (16384 + 4 * 2048)
    # With gradient checkpointing, the weights of one layer.
    assert dora - without_dropout == pytest.approx(4 * base.linear / base.layers, rel=0.01)


# What the machine has.


def test_a_container_s_limit_counts_as_the_machine_s_memory(monkeypatch, tmp_path):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr("toolkit.model.memory.MEMORY_LIMITS", (limit,))
    whole = main_memory()
    limit.write_text("max\n")
    assert main_memory() == whole
    limit.write_text("1000\n")
    assert main_memory() == 1000


def test_room_for_a_cache_that_does_not_exist_yet_is_that_of_its_disk(tmp_path):
    assert free_disk(tmp_path / "not" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.05)


def test_a_gpu_that_is_too_small_is_named():
    with pytest.raises(EnvironmentLacks, match=r"needs about .* in NF4, and the GPU Tesla T4 has 1\.0 GB"):
        memory.check_memory(
            "google/gemma-2b-it", known("google/gemma-2b-it"), Machine("Tesla T4", 10**9, "float16", "cuda"), "nf4"
        )


# When it runs out.


def test_what_torch_really_says_is_known():
    with pytest.raises(EnvironmentLacks), memory_errors():
        torch.empty(10**15)


@pytest.mark.parametrize("raised", [RuntimeError("size mismatch"), FileNotFoundError(errno.ENOENT, "gone")], ids=repr)
def test_other_errors_are_not_taken_for_a_lack_of_memory(raised):
    with pytest.raises(type(raised)), memory_errors():
        raise raised


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_work_is_halved_until_it_fits_and_for_less_than_one_it_is_the_error_itself(error):
    def work(size):
        tried.append(size)
        if size > fits:
            raise error
        return "done"

    tried, fits = [], 3
    assert memory.halving(16, work) == ("done", 2)
    assert tried == [16, 8, 4, 2]
    tried, fits = [], 0
    with pytest.raises(type(error)):
        memory.halving(4, work)
    assert tried == [4, 2, 1]


def test_an_error_of_another_kind_halves_nothing():
    with pytest.raises(RuntimeError, match="shape mismatch"):
        memory.halving(4, lambda _: (_ for _ in ()).throw(RuntimeError("shape mismatch")))


def test_a_full_disk_is_named_as_libraries_say_it(tmp_path):
    with pytest.raises(EnvironmentLacks, match="No space left"), disk_errors(tmp_path):
        raise RuntimeError("[enforce fail] PytorchStreamWriter failed writing file")
    with pytest.raises(EnvironmentLacks, match="No space left"), disk_errors(tmp_path):
        raise OSError("131072 requested and 8704 written")
    with pytest.raises(InputError, match="Permission denied"), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
