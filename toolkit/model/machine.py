"""What this machine has: a GPU or not, memory, room on the disk, speed. Knows nothing of models."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

# Limits that a container puts on its memory, by control groups of version 2 and 1.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes.

    Attributes:
        gpu: Its name; None where the CPU computes.
        memory: Bytes of the GPU's memory, or of the machine's.
        compute: The torch dtype that it computes in (`compute_dtype`).
    """

    gpu: str | None
    memory: int
    compute: str


def this_machine() -> Machine:
    """The GPU where there is one, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return Machine(None, main_memory(), compute_dtype())
    return Machine(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory, compute_dtype())


def compute_dtype() -> str:
    """The torch dtype to compute in: bf16 where the GPU has it natively, fp16 on older GPUs, fp32 on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"


def main_memory() -> int:
    """Bytes of memory that processes may take together: the machine's, or what its container allows."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text(encoding="ascii").strip() for path in MEMORY_LIMITS if path.is_file()]
    return min(total, *(int(limit) for limit in limits if limit.isdigit()), total)


def free_disk(folder: Path) -> int:
    """Bytes that can still be written into a folder, which need not exist yet."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def matrix_flops() -> float:
    """Operations a second that the CPU reaches in float32 matrix products, measured in a fraction of a second."""
    import torch

    matrix = torch.ones(1024, 1024)
    torch.mm(matrix, matrix)
    started, products = time.perf_counter(), 3
    for _ in range(products):
        torch.mm(matrix, matrix)
    return products * 2 * 1024**3 / (time.perf_counter() - started)
