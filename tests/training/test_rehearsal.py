"""A rehearsed step takes the memory of a real one, agrees with the estimate, and finds a tensor on the wrong device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.rehearsing import CASES


@pytest.fixture(scope="module")
def found():
    command, tests = [sys.executable, "-m", "support.rehearsing"], Path(__file__).parents[1]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tests)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


# The estimate is of training with dropout.
@pytest.mark.parametrize("case", [case for case in CASES if case != "plain"])
def test_the_estimate_is_what_a_rehearsal_takes(found, case):
    held, peak, estimate = found[case]
    assert held < peak
    assert 0.88 * peak <= estimate <= 1.25 * peak


def test_a_rehearsed_step_takes_the_memory_of_a_real_one_on_the_cpu(found):
    held, peak, _ = found["plain"]
    assert peak - held == pytest.approx(found["real"], rel=0.1)


def test_each_saving_is_one(found):
    peaks = {case: found[case][1] for case in CASES}
    assert peaks["half"] < peaks["float32"]
    assert peaks["eight bits"] < peaks["float32"] < peaks["dora"]
    assert found["four bits"][0] < found["half"][0]


def test_a_tensor_on_the_wrong_device_is_found(found):
    assert "at least two devices, rehearsal:0 and cpu" in found["planted"]
