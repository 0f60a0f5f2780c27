"""What this machine can do, and what is missing for what. Changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.folder import library_versions

GIB = 1024**3
SEED_BASE_GIB = 6


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine: `state` says whether it is fine, missing for something, or just worth knowing."""

    what: str
    state: Literal["ok", "missing", "note"]
    found: str
    means: str


def diagnose() -> Sequence[Finding]:
    """Look at Python, libraries, device, memory, disk, Hub and token."""
    libraries = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return [
        Finding("Python", "ok", platform.python_version(), ""),
        Finding("libraries", "ok", libraries, ""),
        _device(),
        _four_bit(),
        _memory(),
        _disk(),
        _hub(),
        _token(),
    ]


def _device() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding(
            "device",
            "note",
            f"CPU, {os.cpu_count()} cores",
            "the recipe demo runs; gemma-2b recipes want a GPU with 16 GB",
        )
    total = torch.cuda.get_device_properties(0).total_memory / GIB
    precision = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    enough = total >= 14
    means = "all recipes run" if enough else "too small for gemma-2b recipes, which want 16 GB"
    return Finding(
        "device", "ok" if enough else "note", f"{torch.cuda.get_device_name()}, {total:.0f} GiB, {precision}", means
    )


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
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    means = "" if total >= 8 else "a 2 B base needs 8 GiB to be loaded"
    return Finding("memory", "ok" if total >= 8 else "note", f"{total:.0f} GiB", means)


def _disk() -> Finding:
    from huggingface_hub.constants import HF_HUB_CACHE

    existing = next(path for path in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    enough = free >= SEED_BASE_GIB
    means = "" if enough else f"google/gemma-2b-it takes {SEED_BASE_GIB} GiB in {HF_HUB_CACHE}"
    return Finding("disk", "ok" if enough else "missing", f"{free:.0f} GiB free for the cache", means)


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
