"""What this machine can do, what it lacks, and which recipes it can run. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
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
    Machine,
    chosen_quantization,
    free_disk,
    main_memory,
    nodes_of,
    rows_that_fit,
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
# Rows to train on of each source, with the shipped recipes' settings.
ROWS = {"corpus": 614, "hub": 833, "pokeapi": 3258}
GATED = {base for base in KNOWN if base.startswith("google/gemma")}


Lack = Literal["memory", "cuda", "disk"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What a recipe needs, by estimate.

    Attributes:
        recipe: Its name.
        base: Hub id of its base.
        gated: Whether the base's licence has to be accepted first.
        download_bytes: Of the base.
        quantization: How the base is held while it is trained here: `nf4` or `none`.
        memory_bytes: To train one usual row at a time, with gradient checkpointing.
        rows_at_once: How many rows are read together.
        memory_bytes_at_once: For so many.
        examples: Rows that are trained on in all, at most.
        train_seconds: How long that takes here, without evaluation; None where it does not run.
        lacks: What this machine lacks.
    """

    recipe: str
    base: str
    gated: bool
    download_bytes: int
    quantization: str
    memory_bytes: int
    rows_at_once: int
    memory_bytes_at_once: int
    examples: int
    train_seconds: float | None
    lacks: tuple[Lack, ...]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One fact about the machine: `state` says whether it is fine, missing for something, or just worth knowing.

    Of a recipe with a base to download, `needs` says the same in numbers.
    """

    what: str
    state: Literal["ok", "missing", "note"]
    found: str
    means: str
    needs: Needs | None = None


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
        found = "a sentence encoder, some 100 MB; minutes on a CPU"
        if importlib.util.find_spec("sentence_transformers"):
            return Diagnosis(what, "ok", found, "")
        return Diagnosis(what, "missing", found, "needs the extra `encoder`")
    if recipe.base not in KNOWN:
        return Diagnosis(what, "note", "size unknown", "`pkt train` looks it up before the download")
    needs = _needs(recipe, machine, free)
    found = f"{size(needs.download_bytes)} to download, {size(needs.memory_bytes)} of memory"
    if needs.rows_at_once > 1:
        found += f", {size(needs.memory_bytes_at_once)} for {needs.rows_at_once} rows at once"
    if needs.train_seconds is None:
        return Diagnosis(what, "missing", found, "; ".join(_lacking(needs, machine, free)), needs)
    where = "without a GPU" if machine.gpu is None else "on this GPU"
    means = [f"{where}: about {duration(needs.train_seconds)} to train"]
    if needs.gated:
        means.append(f"gated: accept its licence on {DEFAULT_ENDPOINT}/{recipe.base}")
    return Diagnosis(what, "note" if machine.gpu is None else "ok", found, "; ".join(means), needs)


def _needs(recipe: Recipe, machine: Machine, free: int) -> Needs:
    base, training = size_of(config_of(recipe.base, KNOWN[recipe.base])), recipe.training
    compute = machine.compute if training.compute == "auto" or machine.gpu else training.compute
    machine = replace(machine, compute=compute)
    held = chosen_quantization(base, recipe, machine)
    memory = train_bytes(base, recipe, compute, held)
    rows, at_once = rows_that_fit(base, recipe, machine, held)
    # Published in bf16: two bytes each.
    download = 2 * base.parameters
    lacks: list[Lack] = ["memory"] if memory > machine.memory else []
    lacks += ["cuda"] if training.optimizer == "paged_adamw_8bit" and machine.kind != "cuda" else []
    lacks += ["disk"] if download > free else []
    read = sum(ROWS[source.name] for source in recipe.dataset.sources)
    steps = training.max_steps or ceil(ceil(read / training.batch_size) * (training.epochs or 1))
    examples = training.batch_size * steps
    tokens = round(examples * nodes_of(rows) / rows)
    seconds = None if lacks else training_seconds(base.parameters, tokens, compute)
    return Needs(
        recipe=recipe.name,
        base=recipe.base,
        gated=recipe.base in GATED,
        download_bytes=download,
        quantization=held,
        memory_bytes=memory,
        rows_at_once=rows,
        memory_bytes_at_once=at_once,
        examples=examples,
        train_seconds=seconds,
        lacks=tuple(lacks),
    )


def _lacking(needs: Needs, machine: Machine, free: int) -> list[str]:
    """What a machine lacks for a recipe, as sentences."""
    said = {
        "memory": f"too large for the {'GPU' if machine.gpu else 'memory'}",
        "cuda": "its optimizer paged_adamw_8bit requires a CUDA GPU",
        "disk": f"{size(needs.download_bytes - free)} too little room on the disk",
    }
    return [said[each] for each in needs.lacks]
