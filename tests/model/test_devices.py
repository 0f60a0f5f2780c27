"""Which device computes, in what, and what is refused on GPUs that are not NVIDIA's: tried by their absence."""

from types import SimpleNamespace

import pytest
import torch

from toolkit.core.errors import EnvironmentLacks
from toolkit.core.recipe import load_recipe
from toolkit.model import loading, memory
from toolkit.training import processes
from toolkit.training.micro_batch import MicroBatch
from toolkit.training.trainer import check_environment


@pytest.fixture
def having(monkeypatch):
    """Have torch say that these kinds of devices are there, each with 8 GB."""

    def having(*kinds):
        for kind in ("cuda", "xpu", "mps"):
            module = torch.get_device_module(kind)
            monkeypatch.setattr(module, "is_available", lambda kind=kind: kind in kinds)
            monkeypatch.setattr(module, "get_device_name", lambda kind=kind: f"a GPU by {kind}", raising=False)
            properties = SimpleNamespace(total_memory=8 * 10**9)
            monkeypatch.setattr(module, "get_device_properties", lambda *_, it=properties: it, raising=False)
        monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M4")
        monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * 10**9)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
        for module in (torch.cuda, torch.xpu):
            monkeypatch.setattr(module, "is_bf16_supported", lambda: True)

    return having


@pytest.mark.parametrize(
    ("kinds", "chosen", "compute", "gpu", "gigabytes"),
    [
        ([], "cpu", "float32", None, None),
        (["mps"], "mps", "float32", "Apple M4", 12),
        (["xpu"], "xpu", "bfloat16", "a GPU by xpu", 8),
        (["cuda", "xpu"], "cuda", "float16", "a GPU by cuda", 8),
    ],
)
def test_the_gpu_that_is_there_computes_in_the_type_that_suits_it(having, kinds, chosen, compute, gpu, gigabytes):
    having(*kinds)
    machine = memory.this_machine()
    assert (machine.kind, machine.compute, machine.gpu) == (chosen, compute, gpu)
    assert machine.memory == (gigabytes * 10**9 if gigabytes else memory.main_memory())
    assert (memory.drawing_machine()["device"], memory.hardware()["device"]) == (chosen, chosen)
    with loading.autocast("bfloat16"):
        assert torch.is_autocast_enabled(chosen)


@pytest.mark.parametrize("kind", ["xpu", "mps", "cpu"])
def test_a_recipe_with_the_paged_optimizer_asks_for_a_cuda_gpu(having, kind):
    having(kind)
    with pytest.raises(EnvironmentLacks, match="needs a CUDA GPU"):
        check_environment(load_recipe("seed-gemma-2b").training)
    check_environment(load_recipe("gemma-2b-t4").training)


def test_an_xpu_is_measured_as_a_cuda_gpu_and_a_gpu_that_tells_no_peak_takes_the_rule_of_a_cpu(having):
    auto = load_recipe("demo").training
    first = {}
    for kind in ("cuda", "xpu", "mps", "cpu"):
        having(kind)
        first[kind] = MicroBatch(auto, [[SimpleNamespace(input_ids=[*range(20)])] * 16], 1, print).size
    assert first == {"cuda": 1, "xpu": 1, "mps": 16, "cpu": 16}


@pytest.mark.parametrize("kind", ["xpu", "mps"])
def test_several_processes_on_another_gpu_are_refused(having, monkeypatch, kind):
    having(kind)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(EnvironmentLacks, match="share CPUs or CUDA GPUs"), processes.joined():
        pass
