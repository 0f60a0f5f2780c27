"""What this machine can do, what it lacks, and which recipes it can run. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkit.core import duration, size
from toolkit.core.cluster import HOW_TO_GET_RAY, has_ray
from toolkit.core.errors import HubError, InputError, library_errors
from toolkit.core.folder import library_versions
from toolkit.core.hub_client import DEFAULT_ENDPOINT, endpoint
from toolkit.core.layout import TINY_BASE_ID
from toolkit.core.recipe import Recipe, load_recipe, recipe_names
from toolkit.model.base import cache_folder, config_of
from toolkit.model.kernels import available_kernels, has_bf16, matrix_speed, training_seconds
from toolkit.model.memory import (
    TYPICAL_TOKENS,
    Machine,
    chosen_quantization,
    free_disk,
    main_memory,
    size_of,
    this_machine,
    train_bytes,
)

# Below it, hardly the demo and its libraries fit.
LITTLE_MEMORY, LITTLE_DISK = 4e9, 1e9
# Configurations of the bases of the shipped recipes, so that nothing needs a Hub: what decides their sizes, and
# whether their licence must be accepted first.
_GEMMA = {"vocab_size": 256_000, "head_dim": 256}
KNOWN: dict[str, dict[str, object]] = {
    "google/gemma-2b-it": _GEMMA
    | {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18}
    | {"num_attention_heads": 8, "num_key_value_heads": 1},
    "google/gemma-3-1b-it": _GEMMA
    | {"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26}
    | {"num_attention_heads": 4, "num_key_value_heads": 1, "vocab_size": 262_144},
    "google/gemma-2-9b-it": _GEMMA
    | {"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42}
    | {"num_attention_heads": 16, "num_key_value_heads": 8},
    "K-intelligence/Midm-2.0-Mini-Instruct": {"model_type": "llama", "hidden_size": 1792, "intermediate_size": 4608}
    | {"num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    | {"vocab_size": 131_384, "tie_word_embeddings": True},
    "HuggingFaceTB/SmolLM2-135M-Instruct": {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536}
    | {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    | {"vocab_size": 49_152, "tie_word_embeddings": True},
}
GATED = {base for base in KNOWN if base.startswith("google/gemma")}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One fact about the machine: `state` says whether it is fine, missing for something, or just worth knowing."""

    what: str
    state: Literal["ok", "missing", "note"]
    found: str
    means: str


def diagnose() -> Sequence[Diagnosis]:
    """Look at Python, libraries, device, memory, disk, Hub and token, and at what the shipped recipes need of them."""
    libraries = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    machine, free = this_machine(), free_disk(cache_folder())
    return [
        Diagnosis("Python", "ok", platform.python_version(), ""),
        Diagnosis("libraries", "ok", libraries, ""),
        _device(machine),
        *([_products()] if machine.gpu is None else []),
        _four_bit(),
        _ray(),
        _memory(),
        _disk(free),
        _hub(),
        _token(),
        *(recipe_diagnosis(load_recipe(name), machine, free) for name in recipe_names()),
    ]


def _device(machine: Machine) -> Diagnosis:
    if machine.gpu is None:
        return Diagnosis(
            "device", "note", f"CPU, {os.cpu_count()} cores", "the recipes demo and smollm2-135m run; others take long"
        )
    return Diagnosis("device", "ok", f"{machine.gpu}, {size(machine.memory)}, {machine.compute}", "")


def _products() -> Diagnosis:
    """Speed of matrix products on the CPU, which decides how long a training takes."""
    measured = [f"float32 {matrix_speed('float32', each):,.0f} by {each}" for each in available_kernels()]
    means = "bfloat16 would be slower"
    if has_bf16():
        measured.append(f"bfloat16 {matrix_speed('bfloat16'):,.0f}")
        means = '`training.compute="bfloat16"` trains faster, and rounds more'
    return Diagnosis("matrices", "ok", f"{', '.join(measured)} GFLOP/s", f"training takes the first; {means}")


def _four_bit() -> Diagnosis:
    import torch

    try:
        with library_errors("NF4 does not work", 'QLoRA needs it; `training.quantization="none"` does without'):
            from bitsandbytes.functional import quantize_4bit

            quantize_4bit(torch.ones(64, 64), quant_type="nf4")
    except InputError as error:
        return Diagnosis("4-bit", "missing", error.found, error.remedy)
    return Diagnosis("4-bit", "ok", "NF4 works", "")


def _ray() -> Diagnosis:
    means = '`engine="ray"` computes on several processes or machines'
    if has_ray():
        return Diagnosis("Ray", "ok", importlib.metadata.version("ray"), means)
    return Diagnosis("Ray", "note", "not installed", f"{means}; {HOW_TO_GET_RAY}")


def _memory() -> Diagnosis:
    total = main_memory()
    if total >= LITTLE_MEMORY:
        return Diagnosis("memory", "ok", size(total), "")
    return Diagnosis("memory", "note", size(total), "little even for the demo")


def _disk(free: int) -> Diagnosis:
    enough = free >= LITTLE_DISK
    means = "" if enough else f"downloaded bases go into {cache_folder()}; HF_HUB_CACHE names another folder"
    return Diagnosis("disk", "ok" if enough else "missing", f"{size(free)} free for the cache", means)


def _hub() -> Diagnosis:
    import httpx2

    without = "push, publish and verify need it; `pkt hub serve` is a local one"
    try:
        with library_errors(f"{endpoint()} is out of reach", without, HubError):
            status = httpx2.get(f"{endpoint()}/api/whoami-v2", timeout=5).status_code
    except HubError as error:
        return Diagnosis("Hub", "missing", error.found, without)
    return Diagnosis("Hub", "ok" if status < 500 else "missing", f"{endpoint()} answers {status}", "")


def _token() -> Diagnosis:
    from huggingface_hub import get_token

    if get_token():
        return Diagnosis("token", "ok", "present", "")
    return Diagnosis(
        "token", "note", "none", "required to push to the public Hub, and for gated bases: `hf auth login`"
    )


def recipe_diagnosis(recipe: Recipe, machine: Machine, free: int) -> Diagnosis:
    """What a shipped recipe needs, by estimate, and whether a machine with so many bytes free for the cache has it."""
    what = f"recipe {recipe.name}"
    if recipe.base == TINY_BASE_ID:
        return Diagnosis(what, "ok", "nothing to download", "its base comes with the toolkit")
    if recipe.task == "identify":
        state: Literal["ok", "missing"] = "ok" if importlib.util.find_spec("sentence_transformers") else "missing"
        return Diagnosis(what, state, "a sentence encoder, some 100 MB", "needs the extra `encoder`; minutes on a CPU")
    if recipe.base not in KNOWN:
        return Diagnosis(what, "note", "size unknown", "`pkt train` looks it up before the download")
    needs = size_of(config_of(recipe.base, KNOWN[recipe.base]))
    # Published in bf16: two bytes each.
    download, held = 2 * needs.parameters, chosen_quantization(needs, recipe, machine)
    memory = train_bytes(needs, recipe, machine.compute, held)
    found = f"{size(download)} to download, {size(memory)} of memory"
    if lacking := _lacking(recipe, machine, memory, download - free):
        return Diagnosis(what, "missing", found, lacking)
    means = []
    if machine.gpu is None:
        compute = machine.compute if recipe.training.compute == "auto" else recipe.training.compute
        seconds = training_seconds(needs.parameters, 1000 * TYPICAL_TOKENS, compute)
        means.append(f"without a GPU: about {duration(seconds)} for 1,000 examples")
    if recipe.base in GATED:
        means.append(f"gated: accept its licence on {DEFAULT_ENDPOINT}/{recipe.base}")
    return Diagnosis(what, "note" if machine.gpu is None else "ok", found, "; ".join(means))


def _lacking(recipe: Recipe, machine: Machine, memory: int, too_much: int) -> str:
    """What a machine lacks for a recipe; empty when it lacks nothing."""
    if memory > machine.memory:
        return f"too large for the {'GPU' if machine.gpu else 'memory'}"
    if recipe.training.optimizer == "paged_adamw_8bit" and machine.kind != "cuda":
        return "its optimizer paged_adamw_8bit requires a CUDA GPU"
    return f"{size(too_much)} too little room on the disk" if too_much > 0 else ""
