"""How much energy a training took, estimated from its time and its device. Knows nothing of cards.

An estimate and nothing more: nobody measured a current. What can not be told is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Board power in watts by the name that CUDA gives, from the makers' data sheets. A name is exact, because a laptop's
# GPU and a slice of one (MIG) begin with the same words and take a fraction.
GPU_WATTS = {
    "Tesla T4": 70,
    "Tesla P100-PCIE-16GB": 250,
    "Tesla V100-PCIE-16GB": 250,
    "Tesla V100-PCIE-32GB": 250,
    "Tesla V100-SXM2-16GB": 300,
    "Tesla V100-SXM2-32GB": 300,
    "NVIDIA A10": 150,
    "NVIDIA A30": 165,
    "NVIDIA A40": 300,
    "NVIDIA A100-PCIE-40GB": 250,
    "NVIDIA A100 80GB PCIe": 300,
    "NVIDIA A100-SXM4-40GB": 400,
    "NVIDIA A100-SXM4-80GB": 400,
    "NVIDIA H100 PCIe": 350,
    "NVIDIA H100 NVL": 400,
    "NVIDIA H100 80GB HBM3": 700,
    "NVIDIA H200": 700,
    "NVIDIA L4": 72,
    "NVIDIA L40": 300,
    "NVIDIA L40S": 350,
    "NVIDIA RTX A4000": 140,
    "NVIDIA RTX A5000": 230,
    "NVIDIA RTX A6000": 300,
    "NVIDIA RTX 6000 Ada Generation": 300,
    "NVIDIA GeForce RTX 2080 Ti": 250,
    "NVIDIA GeForce RTX 3060": 170,
    "NVIDIA GeForce RTX 3070": 220,
    "NVIDIA GeForce RTX 3080": 320,
    "NVIDIA GeForce RTX 3090": 350,
    "NVIDIA GeForce RTX 3090 Ti": 450,
    "NVIDIA GeForce RTX 4060": 115,
    "NVIDIA GeForce RTX 4060 Ti": 160,
    "NVIDIA GeForce RTX 4070": 200,
    "NVIDIA GeForce RTX 4080": 320,
    "NVIDIA GeForce RTX 4090": 450,
    "NVIDIA GeForce RTX 5080": 360,
    "NVIDIA GeForce RTX 5090": 575,
}
# A logical core of a server takes 3 to 4 W at its chip's limit (350 W for 112, 280 W for 128), a desktop's up to 8.
CORE_WATTS = 5


@dataclass(frozen=True, slots=True)
class Energy:
    """An estimate: `watt_hours` if the device took `watts` the whole time; of a CPU, so many for each of its cores."""

    watt_hours: float
    watts: int
    cores: int | None


def training_energy(hardware: Mapping[str, Any] | None, seconds: float | None) -> Energy | None:
    """The energy of a training's device, without memory, cooling and the rest of the machine; None for an unknown GPU.

    Args:
        hardware: `device`, `name` and `cores` as `model.hardware` gives them.
        seconds: Of training.
    """
    if not hardware or not seconds:
        return None
    if hardware.get("device") == "cuda":
        watts, cores = GPU_WATTS.get(str(hardware.get("name"))), None
    else:
        cores = hardware.get("cores")
        watts = CORE_WATTS * cores if cores else None
    return Energy(watts * seconds / 3600, watts, cores) if watts else None
