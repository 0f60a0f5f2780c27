"""Float32 products are made by the kernels that are exact and fastest here, and torch is left as it was found."""

import pytest
import torch

from toolkit.model import kernels

FULL = {"avx512_vl": True, "avx512_bw": True, "avx512_dq": True, "cpu_name": "AMD EPYC"}


@pytest.fixture
def cpu(monkeypatch):
    """A CPU that can do what is asked for, whose oneDNN is as fast as MKL and as exact as the products say."""
    kernels.available_kernels.cache_clear()
    monkeypatch.setattr(kernels, "matrix_speed", lambda *_: 100)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    yield lambda **can: monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: FULL | can)
    kernels.available_kernels.cache_clear()


@pytest.mark.parametrize(
    ("can", "exact", "available"),
    [
        ({}, True, ("oneDNN", "MKL")),
        ({"cpu_name": "Intel Xeon"}, True, ("MKL", "oneDNN")),
        ({"amx_bf16": True, "cpu_name": "Intel Xeon"}, False, ("MKL",)),
        ({}, False, ("MKL",)),
        ({"avx512_vl": False}, True, ("MKL",)),
    ],
)
def test_onednn_is_taken_on_amd_where_it_does_not_cut_numbers(cpu, monkeypatch, can, exact, available):
    cpu(**can)
    # Every product is exact enough or none, also on a real CPU with AMX.
    monkeypatch.setattr(kernels, "LARGEST_ERROR", 1.0 if exact else 0.0)
    assert kernels.available_kernels() == available


def test_numbers_cut_to_bf16_are_far_beyond_the_error_that_is_allowed():
    inputs, weights = kernels._layer("float32")
    exact = inputs.double() @ weights.double()
    cut = inputs.bfloat16().float() @ weights.bfloat16().float()
    allowed = kernels.LARGEST_ERROR * exact.norm()
    assert (inputs @ weights - exact).norm() < allowed < (cut - exact).norm() / 100


def test_where_onednn_is_surely_slower_it_is_not_taken_and_a_little_does_not_decide(cpu, monkeypatch):
    cpu()
    monkeypatch.setattr(kernels, "onednn_is_exact", lambda: True)
    for speed, first in ((90, "oneDNN"), (70, "MKL")):
        kernels.available_kernels.cache_clear()
        speeds = {"oneDNN": speed, "MKL": 100}
        monkeypatch.setattr(kernels, "matrix_speed", lambda _compute, name, speeds=speeds: speeds[name])
        assert kernels.best_kernels() == first


def test_a_torch_that_does_not_tell_what_the_cpu_can_do_multiplies_by_its_own_kernels(cpu, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert kernels.available_kernels() == ("BLAS",)
    assert not kernels.has_bf16()


def test_a_gpu_has_kernels_of_its_own(cpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert kernels.best_kernels() is None


@pytest.mark.parametrize("name", ["oneDNN", "MKL", None])
def test_torch_s_switch_is_set_inside_and_as_it_was_afterwards_even_after_an_error(name):
    before = torch.backends.mkldnn.matmul.fp32_precision
    inside = {"oneDNN": "bf16", "MKL": "ieee", None: before}[name]

    def fail():
        with kernels.float32_kernels(name):
            assert torch.backends.mkldnn.matmul.fp32_precision == inside
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.backends.mkldnn.matmul.fp32_precision == before
    assert torch.get_float32_matmul_precision() == "highest"


def test_speed_is_a_positive_number_and_threads_stay_as_they_were():
    threads = torch.get_num_threads()
    assert kernels.matrix_speed("float32") > 0
    assert torch.get_num_threads() == threads
