"""An estimate of energy follows from time and device, and is absent where nothing can be told."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.cards.model.energy import Energy, training_energy


def test_a_known_gpu_takes_its_board_power_all_the_time() -> None:
    hardware = {"device": "cuda", "name": "Tesla T4", "cores": 2}
    assert training_energy(hardware, 3600) == Energy(70, 70, None)


def test_a_cpu_takes_the_same_for_each_of_its_cores() -> None:
    assert training_energy({"device": "cpu", "name": "AMD EPYC", "cores": 2}, 1800) == Energy(5, 10, 2)


@pytest.mark.parametrize(
    ("hardware", "seconds"),
    [
        (None, 10),
        ({"device": "cuda", "name": "NVIDIA GeForce RTX 4090 Laptop GPU", "cores": 8}, 10),
        ({"device": "cuda", "name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "cores": 8}, 10),
        ({"device": "cpu", "name": "unknown", "cores": None}, 10),
        ({"device": "cpu", "name": "AMD EPYC", "cores": 2}, None),
    ],
)
def test_what_can_not_be_told_is_absent(hardware: dict[str, Any] | None, seconds: float | None) -> None:
    assert training_energy(hardware, seconds) is None
