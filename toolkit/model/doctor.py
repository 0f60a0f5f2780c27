"""What this machine can do, what is missing for what, and which recipes it can run. Changes nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.core.folder import library_versions
from toolkit.core.format import size
from toolkit.core.hub_client import DEFAULT_ENDPOINT
from toolkit.core.recipe import Recipe, load_recipe, recipe_names
from toolkit.model.memory import (
    GATED,
    KNOWN,
    Machine,
    free_disk,
    least_to_train,
    main_memory,
    matrix_flops,
    this_machine,
    time_on_a_cpu,
)

# Below it, hardly the demo and its libraries fit.
LITTLE_MEMORY, LITTLE_DISK = 4e9, 1e9


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine: `state` says whether it is fine, missing for something, or just worth knowing."""

    what: str
    state: Literal["ok", "missing", "note"]
    found: str
    means: str


def diagnose() -> Sequence[Finding]:
    """Look at Python, libraries, device, memory, disk, Hub and token, and at what the shipped recipes need of them."""
    libraries = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    machine = this_machine()
    return [
        Finding("Python", "ok", platform.python_version(), ""),
        Finding("libraries", "ok", libraries, ""),
        _device(machine),
        _four_bit(),
        _memory(),
        _disk(),
        _hub(),
        _token(),
        *_recipes(machine),
    ]


def _device(machine: Machine) -> Finding:
    if machine.gpu is None:
        return Finding("device", "note", f"CPU, {os.cpu_count()} cores", "the recipe demo runs; others take long")
    return Finding("device", "ok", f"{machine.gpu}, {size(machine.memory)}, {machine.compute}", "")


def _four_bit() -> Finding:
    import torch
    from bitsandbytes.functional import quantize_4bit

    try:
        quantize_4bit(torch.ones(64, 64), quant_type="nf4")
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        return Finding(
            "4-bit", "missing", str(error).split("\n")[0], "QLoRA needs it; --quantization none does without"
        )
    return Finding("4-bit", "ok", "NF4 works", "")


def _memory() -> Finding:
    total = main_memory()
    enough = total >= LITTLE_MEMORY
    return Finding("memory", "ok" if enough else "note", size(total), "" if enough else "little even for the demo")


def _disk() -> Finding:
    free = free_disk(_cache())
    enough = free >= LITTLE_DISK
    means = "" if enough else f"downloaded bases go into {_cache()}; HF_HUB_CACHE names another folder"
    return Finding("disk", "ok" if enough else "missing", f"{size(free)} free for the cache", means)


def _cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _hub() -> Finding:
    import httpx2

    endpoint = os.environ["HF_ENDPOINT"]
    try:
        status = httpx2.get(f"{endpoint}/api/whoami-v2", timeout=5).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        # ValueError: a proxy in the environment that is no URL.
        return Finding(
            "Hub",
            "missing",
            f"{endpoint} is out of reach",
            "push, publish and verify need it; `pkt hub serve` is a local one",
        )
    return Finding("Hub", "ok" if status < 500 else "missing", f"{endpoint} answers {status}", "")


def _token() -> Finding:
    from huggingface_hub import get_token

    if get_token():
        return Finding("token", "ok", "present", "")
    return Finding("token", "note", "none", "the public Hub wants one to push, and for gated bases: `hf auth login`")


# What the recipes need.


def _recipes(machine: Machine) -> list[Finding]:
    flops = matrix_flops() if machine.gpu is None else None
    free = free_disk(_cache())
    return [recipe_finding(load_recipe(name), machine, free, flops) for name in recipe_names()]


def recipe_finding(recipe: Recipe, machine: Machine, free: int, flops: float | None) -> Finding:
    """What a shipped recipe needs, by estimate, and whether a machine has it.

    Args:
        recipe: A shipped one: only their bases are known without a Hub.
        machine: What computes.
        free: Bytes that the cache can still take.
        flops: Operations a second of the CPU, where it computes.
    """
    shape = KNOWN.get(recipe.base)
    if shape is None:
        return Finding(f"recipe {recipe.name}", "ok", "nothing to download", "its base comes with the toolkit")
    # Published in bf16: two bytes each.
    download = 2 * shape.parameters
    memory = least_to_train(shape, recipe, machine.compute)
    found = f"{size(download)} to download, {size(memory)} of memory"
    lacking = _lacking(recipe, machine, memory, download - free)
    if lacking:
        return Finding(f"recipe {recipe.name}", "missing", found, lacking)
    means = [time_on_a_cpu(shape, recipe, flops)] if flops is not None else []
    if recipe.base in GATED:
        means.append(f"gated: accept its licence on {DEFAULT_ENDPOINT}/{recipe.base}")
    return Finding(f"recipe {recipe.name}", "note" if flops is not None else "ok", found, "; ".join(means))


def _lacking(recipe: Recipe, machine: Machine, memory: int, too_much: int) -> str:
    """What a machine lacks for a recipe; empty when it lacks nothing."""
    if memory > machine.memory:
        return f"too large for the {'GPU' if machine.gpu else 'memory'}"
    if recipe.training.optimizer == "paged_adamw_8bit" and machine.gpu is None:
        return "its optimizer paged_adamw_8bit wants a CUDA GPU"
    return f"{size(too_much)} too little room on the disk" if too_much > 0 else ""
