"""What tests share: adapters."""

import pytest

from toolkit.core.folder import read_json, write_json, write_jsonl, write_manifest
from toolkit.core.layout import ADAPTER_WEIGHTS, ANSWERS, TINY_BASE_ID
from toolkit.core.recipe import load_recipe
from toolkit.model import base as bases
from toolkit.model import chat, loading, saving


def make_adapter(folder, small_base, *, trained=True, **lora):
    """An adapter of the small base, with a manifest; what passes for training is a B that is not zero."""
    import torch

    base = bases.LocatedBase(TINY_BASE_ID, None, small_base)
    settings = load_recipe("demo", {"lora.r": 2} | {f"lora.{key}": value for key, value in lora.items()})
    peft_model = loading.add_lora(loading.load_base(base, loading.Precision("none", "float32")), settings.lora, 7)
    if trained:
        for name, parameter in peft_model.named_parameters():
            if "lora_" in name:
                torch.nn.init.ones_(parameter)
    folder.mkdir()
    saving.save_adapter(peft_model, loading.load_tokenizer(small_base), base, folder)
    (folder / ANSWERS).write_text('["Squirtle", "Vulpix"]')
    write_manifest(folder, "adapter", {"recipe": settings.model_dump(), "base": {"content": bases.base_hash(base)}})
    return folder


def scale(adapter, factor):
    """Multiply an adapter's weights; by 1e30 they stay numbers, but the model's logits do not."""
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / ADAPTER_WEIGHTS)
    weights = {name: matrix * factor if "lora_B" in name else matrix for name, matrix in weights.items()}
    save_file(weights, adapter / ADAPTER_WEIGHTS, metadata={"format": "pt"})


DESCRIPTIONS = ["A small red fox with six tails.", "Its blue shell is hard as stone.", "달을 보는 여우."]


def with_samples(folder):
    """The folder with samples, as an evaluation writes them, and with what training knows of the base and the data."""
    rows = [
        {"id": f"s{at}", "description": text, "messages": chat.naming_messages(text)}
        for at, text in enumerate(DESCRIPTIONS)
    ]
    write_jsonl(folder / "samples.jsonl", rows)
    manifest = read_json(folder / "manifest.json")
    base = {**manifest["base"], "id": TINY_BASE_ID, "revision": None, "license": "mit"}
    write_json(folder / "manifest.json", {**manifest, "base": base, "dataset": {"id": "owner/creatures"}})
    return folder


@pytest.fixture
def adapter(tmp_path, small_base, use_small_base):
    folder = put_on(
        tmp_path / "adapter", small_base, constant=0.4, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"]
    )
    write_manifest_like_train(folder, bases.LocatedBase(TINY_BASE_ID, None, small_base))
    return with_samples(folder)


def random_weights(peft_model, constant=None):
    """What passes for training; one constant makes a model that is sure of its names, whatever is rounded."""
    import torch

    generator = torch.Generator().manual_seed(5)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name or "modules_to_save.default" in name:
            if constant is None:
                torch.nn.init.normal_(parameter, std=0.3, generator=generator)
            else:
                torch.nn.init.constant_(parameter, constant)


def put_on(folder, base_folder, *, constant=None, **settings):
    """An adapter with the given settings of peft on a base, saved as `train` does."""
    from peft import LoraConfig, get_peft_model

    base = bases.LocatedBase(TINY_BASE_ID, None, base_folder)
    plain = loading.load_base(base, loading.Precision("none", "float32"))
    peft_model = get_peft_model(plain, LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
    random_weights(peft_model, constant)
    peft_model.save_pretrained(folder, save_embedding_layers=False)
    config = read_json(folder / "adapter_config.json")
    write_json(folder / "adapter_config.json", config | {"base_model_name_or_path": TINY_BASE_ID, "revision": None})
    (folder / "README.md").unlink(missing_ok=True)
    loading.load_tokenizer(base_folder).save_pretrained(folder)
    return folder


def write_manifest_like_train(folder, base):
    from toolkit.core.folder import write_manifest

    write_manifest(
        folder, "adapter", {"recipe": load_recipe("demo").model_dump(), "base": {"content": bases.base_hash(base)}}
    )
