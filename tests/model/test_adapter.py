"""Loading: what is damaged is named, too little memory is said to be that, and nothing is downloaded in vain."""

import errno
import json
import shutil

import peft
import pytest
import torch

from support.adapters import make_adapter, put_on
from support.models import untied
from toolkit.core.errors import EnvironmentLacks, HubError, InputError
from toolkit.core.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, TINY_BASE_ID
from toolkit.core.recipe import load_recipe
from toolkit.model import adapter as adapters
from toolkit.model import base as bases
from toolkit.model import loading, saving
from toolkit.model.attach import attach


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    return make_adapter(tmp_path / "adapter", small_base)


def test_an_adapter_that_was_never_trained_is_refused(tmp_path, small_base, use_small_base):
    untrained = make_adapter(tmp_path / "untrained", small_base, trained=False)
    assert adapters.adapter_changes_nothing(untrained)
    with pytest.raises(InputError, match="changes nothing: with it, the base answers as without it"):
        adapters.load_adapter(untrained)


def test_one_product_that_is_not_zero_is_a_change(tmp_path, small_base):
    from safetensors.torch import load_file, save_file

    folder = make_adapter(tmp_path / "adapter", small_base, trained=False, target_modules=["q_proj", "embed_tokens"])
    file = folder / ADAPTER_WEIGHTS
    untrained = load_file(file)
    assert adapters.adapter_changes_nothing(folder)
    # LoRA begins with B = 0, and of embeddings with A = 0; what makes one of them something else is training.
    for name in (name for name, tensor in untrained.items() if not tensor.any()):
        save_file(untrained | {name: torch.ones_like(untrained[name])}, file)
        assert not adapters.adapter_changes_nothing(folder), name
    grown = {name: tensor + 1 if tensor.any() else tensor for name, tensor in untrained.items()}
    save_file(grown, file)
    assert adapters.adapter_changes_nothing(folder)
    save_file(untrained | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, file)
    assert not adapters.adapter_changes_nothing(folder), "a whole layer was trained"


def test_weights_that_are_no_safetensors_are_an_input_error(adapter):
    (adapter / ADAPTER_WEIGHTS).write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        adapters.adapter_changes_nothing(adapter)


def changed(text, **values):
    return json.dumps(json.loads(text) | values)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tokenizer.json", lambda _: "{}"),
        ("tokenizer.json", lambda _: "null"),
        ("tokenizer.json", lambda text: text[:1000]),
        ("tokenizer.json", lambda text: changed(text, model={"type": "nope"})),
        ("tokenizer.json", lambda text: changed(text, version="9")),
        ("tokenizer_config.json", lambda _: "[]"),
        ("tokenizer_config.json", lambda text: changed(text, bos_token=3)),
        ("config.json", lambda text: changed(text, vocab_size="x")),
    ],
)
def test_a_damaged_tokenizer_is_an_input_error(tmp_path, small_base, name, damage):
    folder = shutil.copytree(small_base, tmp_path / "base")
    (folder / name).write_text(damage((folder / name).read_text()))
    with pytest.raises(InputError, match="holds no tokenizer that can be read"):
        loading.load_tokenizer(folder)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        (ADAPTER_WEIGHTS, None, "holds no adapter_model.safetensors"),
        (ADAPTER_CONFIG, None, "adapter_config.json does not exist"),
        (ADAPTER_CONFIG, lambda text: changed(text, base_model_name_or_path=None), "names no base"),
        (ADAPTER_CONFIG, lambda _: "3", "no configuration of peft"),
        (ADAPTER_CONFIG, lambda _: "{", "not valid JSON"),
        (ADAPTER_CONFIG, lambda text: changed(text, peft_type=["LORA"]), "no configuration of peft"),
        (ADAPTER_CONFIG, lambda text: changed(text, r="x"), "cannot be loaded"),
        (ADAPTER_CONFIG, lambda text: changed(text, target_modules="*["), "cannot be loaded: nothing to repeat"),
        (ADAPTER_CONFIG, lambda text: changed(text, target_modules=["nope"]), "cannot be loaded: Target modules"),
        (ADAPTER_CONFIG, lambda text: changed(text, layer_replication=[[0, 9]]), "cannot be loaded: "),
        (
            ADAPTER_CONFIG,
            lambda text: changed(text, peft_type="NEW"),
            r"installed peft \d\S+ does not know: the kind NEW",
        ),
        (ADAPTER_CONFIG, lambda text: changed(text, new=1, other="a"), r"peft \d\S+ does not know: new, other\."),
        (ADAPTER_CONFIG, lambda text: changed(text, new=1, peft_version="9.9"), r"peft that saved it \(9\.9\)"),
        (ADAPTER_CONFIG, lambda text: changed(text, task_type="SEQ_CLS"), "for the task SEQ_CLS"),
        (ADAPTER_CONFIG, lambda text: changed(text, alora_invocation_tokens=[3]), "tokens that invoke it"),
        (ADAPTER_CONFIG, lambda text: changed(text, init_lora_weights="lora_ga"), "LoRA-GA.*do not say how"),
        (ADAPTER_CONFIG, lambda text: changed(text, init_lora_weights="pissa_niter_4"), "PiSSA by random numbers"),
        (ADAPTER_CONFIG, lambda text: changed(text, lora_alpha=0), "changes nothing"),
        ("manifest.json", lambda _: "[]", "no folder of the kind"),
    ],
)
def test_a_damaged_adapter_is_an_input_error(adapter, name, damage, said):
    file = adapter / name
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage(file.read_text()))
    with pytest.raises(InputError, match=said):
        adapters.load_adapter(adapter)


def test_new_settings_that_are_switched_off_change_nothing(adapter):
    file = adapter / ADAPTER_CONFIG
    off = {"new": None, "other": False, "parts": {}, "use_new_way": False, "new_way_size": 16}
    file.write_text(changed(file.read_text(), **off))
    adapters.load_adapter(adapter)


@pytest.mark.parametrize("kind", ["PromptTuning", "PrefixTuning", "PromptEncoder"])
def test_an_adapter_that_changes_more_than_weights_is_refused_by_its_kind(adapter, kind):
    settings = getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", num_virtual_tokens=4)
    settings.save_pretrained(adapter)
    with pytest.raises(InputError, match=r"is of the kind \w+_TUNING, which pkt cannot ask"):
        attach(None, adapter)


def test_a_pickled_adapter_is_refused_with_how_to_write_it_anew(adapter):
    (adapter / ADAPTER_WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match=r"as a pickle only .*weights_only=True"):
        adapters.load_adapter(adapter)


@pytest.mark.parametrize("part", ["lora_A", "lora_magnitude_vector", "norm"])
def test_an_adapter_whose_training_diverged_is_refused(tmp_path, small_base, use_small_base, part):
    from safetensors.torch import load_file, save_file

    adapter = make_adapter(tmp_path / "adapter", small_base, use_dora=True, modules_to_save=["norm"])
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    next(tensor for name, tensor in weights.items() if part in name).view(-1)[0] = float("nan")
    save_file(weights, adapter / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(InputError, match="training diverged"):
        adapters.load_adapter(adapter)


@pytest.mark.parametrize("part", ["lora_B", "modules_to_save", None])
def test_training_that_changed_nothing_is_seen_whatever_was_trained(small_base, part):
    lora = load_recipe("demo", {"lora.use_dora": True, "lora.modules_to_save": ["embed_tokens"]}).lora
    base = loading.load_base(bases.LocatedBase("a/b", None, small_base), loading.Precision("none", "float32"))
    model = loading.add_lora(base, lora, 7)
    fresh = saving.weights_hash(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part and part in name:
                parameter += 1
    assert (saving.weights_hash(model) == fresh) is (part is None)


@pytest.mark.parametrize("config", [{"vocab_size": "x"}, {"num_hidden_layers": None}, {"model_type": "nope"}])
def test_a_damaged_base_is_an_input_error(tmp_path, small_base, config):
    folder = shutil.copytree(small_base, tmp_path / "base")
    (folder / "config.json").write_text(changed((folder / "config.json").read_text(), **config))
    with pytest.raises(InputError, match=r"The .*base a/b (is of the kind|is not accepted)"):
        loading.load_base(bases.LocatedBase("a/b", None, folder), loading.Precision("none", "float32"))


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=repr,
)
def test_too_little_memory_is_the_machines_lack_wherever_it_shows(adapter, monkeypatch, raised):
    from transformers import AutoModelForCausalLM

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(EnvironmentLacks, match=r'not enough memory.*`quantization="nf4"`'):
        adapters.load_adapter(adapter)


def test_a_base_card_that_cannot_be_read_states_no_licence(tmp_path):
    base = bases.LocatedBase("a/b", None, tmp_path)
    for card in (b"---\nlicense: [\n---\n", b"---\nlicense:\n---\n", b"\xff", b"# Title"):
        (tmp_path / "README.md").write_bytes(card)
        assert bases.base_license(base) == "other"
    (tmp_path / "README.md").write_bytes(b"---\nlicense: gemma\n---\n")
    assert bases.base_license(base) == "gemma"


def test_for_a_tokenizer_no_weights_are_downloaded(tmp_path, small_base, monkeypatch):
    from huggingface_hub import HfApi

    from toolkit.hub.local.serve import running_hub

    with running_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        HfApi(endpoint=url).create_repo("owner/small")
        HfApi(endpoint=url).upload_folder(repo_id="owner/small", folder_path=small_base)
        found = bases.locate_base_to_load("owner/small", weights=False).path
        assert not list(found.glob("*.safetensors"))
        assert loading.load_tokenizer(found).chat_template == loading.load_tokenizer(small_base).chat_template
        assert list(bases.locate_base("owner/small").path.glob("*.safetensors"))


def test_a_missing_adapter_folder_that_looks_like_a_hub_id_is_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"There is no folder runs/adapter, and .* cannot be reached"):
        adapters.locate_adapter("runs/adapter")


def test_what_a_family_clamps_as_it_computes_is_not_held_in_4_bits(tmp_path):
    from transformers import AutoModelForCausalLM, Gemma3nTextConfig

    config = Gemma3nTextConfig(
        vocab_size=300,
        vocab_size_per_layer_input=300,
        hidden_size=64,
        hidden_size_per_layer_input=64,
        intermediate_size=[64] * 4,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
        activation_sparsity_pattern=[0.5, 0.5, 0.0, 0.0],
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        laurel_rank=64,
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    base = bases.LocatedBase("owner/gemma-3n", None, tmp_path)
    loaded = loading.load_base(base, loading.Precision("nf4", "float32")).train()
    assert type(loaded.model.layers[0].self_attn.q_proj).__name__ == "Linear4bit"
    assert type(loaded.lm_head).__name__ == "Linear"
    assert loaded(input_ids=torch.tensor([[5, 6, 7]]), use_cache=False).logits.isfinite().all()


def test_the_tiny_base_is_not_stored_quantised_and_one_that_is_not_here_may_be(adapter):
    assert not adapters.may_be_quantized(adapter)
    named = json.loads((adapter / ADAPTER_CONFIG).read_text())
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(named | {"base_model_name_or_path": "owner/never-downloaded"}))
    assert adapters.may_be_quantized(adapter)


def answers(model, tokenizer):
    with torch.inference_mode():
        return model(**tokenizer(loading.PROBE_TEXT, return_tensors="pt")).logits


def test_several_adapters_share_the_tensors_of_one_base_and_answer_as_alone(tmp_path, small_base, use_small_base):
    folders = [
        put_on(tmp_path / "one", small_base, target_modules=["q_proj"]),
        put_on(tmp_path / "two", small_base, target_modules=["q_proj", "down_proj"], use_dora=True),
        put_on(tmp_path / "three", small_base, target_modules=["v_proj"], modules_to_save=["gate_proj"]),
    ]
    loaded = adapters.load_adapters(folders)
    for folder, (model, tokenizer, _) in zip(folders, loaded, strict=True):
        alone, _, _ = adapters.load_adapter(folder)
        assert answers(model, tokenizer).equal(answers(alone, tokenizer))
    stored = [{parameter.data_ptr() for parameter in model.parameters()} for model, _, _ in loaded]
    weights = list(loading.load_base(*plain(small_base)).parameters())
    assert len(stored[0] & stored[1] & stored[2]) == len(weights)


def plain(folder):
    return bases.LocatedBase(TINY_BASE_ID, None, folder), loading.Precision("none", "float32")


def test_an_adapter_that_changes_the_weights_of_its_base_does_not_share_it(tmp_path, small_base, use_small_base):
    one = put_on(tmp_path / "one", small_base, target_modules=["q_proj"])
    pissa = put_on(tmp_path / "pissa", small_base, target_modules=["q_proj"], init_lora_weights="pissa")
    adapters.load_adapter(pissa)
    with pytest.raises(InputError, match=r"pissa changes its base's own weights.*Load it alone"):
        adapters.load_adapters([one, pissa])


def test_adapters_of_two_bases_are_not_loaded_together(tmp_path, small_base, use_small_base):
    one = put_on(tmp_path / "one", small_base, target_modules=["q_proj"])
    other = shutil.copytree(small_base, tmp_path / "base")
    two = shutil.copytree(one, tmp_path / "two")
    config = json.loads((two / ADAPTER_CONFIG).read_text())
    (two / ADAPTER_CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": str(other)}))
    assert len(adapters.load_adapters([one, two])) == 2
    untied(small_base, other)
    with pytest.raises(InputError, match=r"one is an adapter of the base .*, and .*two one of base"):
        adapters.load_adapters([one, two])
