"""The kernels that multiply matrices on a CPU: which are exact in float32 and fastest on this one, and how fast.

torch gives float32 to MKL or another BLAS, and to oneDNN where bf16 is allowed in its place. On CPUs with AVX-512 and
without AMX, oneDNN does not use that permission; on AMD's it is faster than MKL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from toolkit.model.memory import device_kind

if TYPE_CHECKING:
    import torch

ONEDNN = "oneDNN"
# Tokens, inputs and outputs of a layer that is tried.
TRIED = (256, 576, 1536)
# Relative error of that product against float64: 3e-7 by MKL, 4e-7 by oneDNN, 3e-3 where numbers are cut to bf16.
LARGEST_ERROR = 1e-6
# oneDNN is refused where it is surely slower: by a narrower margin, two runs could choose differently.
SURELY_SLOWER = 0.8
# Share of the speed of plain matrix products that a step of training reaches: of a CPU by measurement, of a GPU assumed
# (docs/scale.md).
REACHED = {"cpu": 0.5, "gpu": 0.35}
# Rows and columns of the matrices that a GPU is tried with.
TRIED_ON_GPU = 4096


@contextmanager
def float32_kernels(kernels: str | None) -> Iterator[None]:
    """Multiply float32 matrices by these kernels inside the block; None leaves them as they are.

    torch has one switch for the whole process: enter this once, around everything, and not in two threads.
    """
    import torch

    switch: Any = torch.backends.mkldnn
    before = switch.matmul.fp32_precision
    if kernels is not None:
        switch.matmul.fp32_precision = "bf16" if kernels == ONEDNN else "ieee"
    try:
        yield
    finally:
        switch.matmul.fp32_precision = before


@cache
def available_kernels() -> tuple[str, ...]:
    """Kernels that multiply float32 exactly on this machine, those to use first; none on a GPU, which has its own."""
    import torch

    if device_kind() != "cpu":
        return ()
    own = "MKL" if torch.backends.mkl.is_available() else "BLAS"  # type: ignore[no-untyped-call]
    if not onednn_is_exact():
        return (own,)
    amd = "AMD" in str(_cpu().get("cpu_name"))
    faster = amd and matrix_speed("float32", ONEDNN) >= SURELY_SLOWER * matrix_speed("float32", own)
    return (ONEDNN, own) if faster else (own, ONEDNN)


def best_kernels() -> str | None:
    """The first of the available kernels; None on a GPU."""
    return next(iter(available_kernels()), None)


def onednn_is_exact() -> bool:
    """Whether torch gives float32 to oneDNN on this CPU when asked to, and that multiplies it as float32."""
    if not all(_cpu().get(needed) for needed in ("avx512_vl", "avx512_bw", "avx512_dq")):
        return False
    inputs, weights = _layer("float32")
    exact = inputs.double() @ weights.double()
    with float32_kernels(ONEDNN):
        return float((inputs @ weights - exact).norm()) <= LARGEST_ERROR * float(exact.norm())


def has_bf16() -> bool:
    """Whether this CPU has instructions that multiply bf16, and torch uses them."""
    import torch

    used: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return used and any(_cpu().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def matrix_speed(compute: str, kernels: str | None = None) -> float:
    """Matrix products in 1e9 operations a second: the best of five on one of torch's threads, times their number."""
    import torch

    (inputs, weights), taken = _layer(compute), []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with float32_kernels(kernels):
        # The first one compiles.
        for _ in range(6):
            # A thread's own time, which other programs hardly change.
            started = time.thread_time()
            inputs @ weights
            taken.append(max(time.thread_time() - started, 1e-9))
    torch.set_num_threads(threads)
    return 2 * inputs.numel() * weights.shape[1] * threads / min(taken[1:]) / 1e9


def training_seconds(parameters: int, tokens: int, compute: str) -> float:
    """About how long an adapter trains here: two operations a parameter forward, two back (Kaplan et al. 2020)."""
    if device_kind() == "cpu":
        return 4 * parameters * tokens / (REACHED["cpu"] * matrix_speed(compute, best_kernels()) * 1e9)
    return 4 * parameters * tokens / (REACHED["gpu"] * gpu_speed(compute) * 1e9)


def gpu_speed(compute: str) -> float:
    """Matrix products of the GPU in 1e9 operations a second: the best of five."""
    import torch

    kind, taken = device_kind(), []
    module = torch.get_device_module(kind)
    matrix = torch.zeros(TRIED_ON_GPU, TRIED_ON_GPU, dtype=getattr(torch, compute), device=kind)
    for _ in range(6):
        module.synchronize()
        started = time.perf_counter()
        matrix @ matrix
        module.synchronize()
        taken.append(time.perf_counter() - started)
    return 2 * TRIED_ON_GPU**3 / min(taken[1:]) / 1e9


def _layer(compute: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and weights of a layer, always the same."""
    import torch

    drawn, dtype, (tokens, inputs, outputs) = torch.Generator().manual_seed(0), getattr(torch, compute), TRIED
    inputs_first = torch.randn(outputs, inputs, generator=drawn).to(dtype).T
    return torch.randn(tokens, inputs, generator=drawn).to(dtype), inputs_first


def _cpu() -> Mapping[str, Any]:
    """What torch knows of the CPU; nothing for a torch that does not tell."""
    import torch

    return getattr(torch.cpu, "get_capabilities", dict)()
