"""The doctor says of every shipped recipe what it needs, and what this machine lacks for it."""

from dataclasses import replace

import pytest

from toolkit.core.recipe import load_recipe, recipe_names
from toolkit.model import doctor
from toolkit.model.memory import Machine

GB = 10**9
LAPTOP, T4 = Machine(None, 16 * GB, "float32", "cpu"), Machine("Tesla T4", 16 * GB, "float16", "cuda")


def finding(name, machine=T4, free=100 * GB):
    return doctor.recipe_diagnosis(load_recipe(name), machine, free)


def test_every_shipped_recipe_is_among_the_findings(monkeypatch):
    # From Python nothing sets HF_ENDPOINT.
    monkeypatch.setattr("toolkit.core.hub_client.DEFAULT_ENDPOINT", "http://127.0.0.1:9")
    found = [each.what for each in doctor.diagnose()]
    assert [what for what in found if what.startswith("recipe ")] == [f"recipe {name}" for name in recipe_names()]


@pytest.mark.parametrize(("native", "said"), [(True, "bfloat16 400 GFLOP/s"), (False, "150 by MKL GFLOP/s")])
def test_a_cpu_s_kernels_and_speeds_are_said_those_that_training_takes_first(monkeypatch, native, said):
    speeds = {("float32", "oneDNN"): 200, ("float32", "MKL"): 150, ("bfloat16",): 400}
    monkeypatch.setattr(doctor, "matrix_speed", lambda *what: speeds[what])
    monkeypatch.setattr(doctor, "available_kernels", lambda: ("oneDNN", "MKL"))
    monkeypatch.setattr(doctor, "has_bf16", lambda: native)
    found = doctor._products()
    assert found.found.startswith("float32 200 by oneDNN, float32 150 by MKL")
    assert found.found.endswith(said)
    assert ("would be slower" in found.means) is not native


@pytest.mark.parametrize("machine", [LAPTOP, T4, replace(LAPTOP, memory=1)])
def test_the_demo_needs_nothing(machine):
    assert finding("demo", machine, free=0).state == "ok"


def test_a_recipe_needs_a_download_and_memory():
    assert finding("gemma-2b-t4").found == "5.0 GB to download, 5.1 GB of memory, 12 GB for 16 rows at once"


@pytest.mark.parametrize("name", ["gemma-2b-t4", "seed-gemma-2b", "midm-2b-ko", "gemma-3-1b"])
def test_a_free_gpu_of_16_gb_runs_the_small_ones(name):
    assert finding(name).state == "ok"


def test_of_a_cpu_it_is_said_how_long_it_takes_and_nothing_forbidden():
    found = finding("gemma-2b-t4", LAPTOP)
    assert (found.state, found.means.split(":")[0]) == ("note", "without a GPU")


def test_what_a_machine_lacks_is_named():
    assert finding("gemma-2-9b-24gb", replace(T4, memory=8 * GB)).means == "too large for the GPU"
    assert finding("gemma-2b-t4", replace(LAPTOP, memory=4 * GB)).means == "too large for the memory"
    assert finding("gemma-2b-t4", free=4 * GB).means == "1.0 GB too little room on the disk"
    assert "requires a CUDA GPU" in finding("seed-gemma-2b", LAPTOP).means
    assert all(found.state == "missing" for found in (finding("seed-gemma-2b", LAPTOP), finding("gemma-2b-t4", free=0)))


def test_a_gated_base_comes_with_the_page_of_its_licence_and_others_without():
    assert "https://huggingface.co/google/gemma-2b-it" in finding("gemma-2b-t4").means
    assert "licence" not in finding("midm-2b-ko").means


def test_a_base_that_no_shipped_recipe_has_is_not_called_small():
    recipe = load_recipe("gemma-2b-t4").model_copy(update={"base": "misty/another"})
    found = doctor.recipe_diagnosis(recipe, T4, 0)
    assert (found.state, found.found) == ("note", "size unknown")


def test_what_a_recipe_needs_is_said_in_numbers_too():
    needs = finding("gemma-2-9b-24gb", replace(T4, memory=24 * GB)).needs
    # Four epochs of 39 steps; two rows at once, as the recipe says.
    assert (needs.rows_at_once, needs.quantization, needs.gated, needs.examples) == (2, "nf4", True, 4 * 39 * 16)
    assert needs.lacks == ()
    assert needs.train_seconds > 0
    assert needs.memory_bytes < needs.memory_bytes_at_once < 24 * GB
    needs = finding("seed-gemma-2b", LAPTOP, free=0).needs
    assert (needs.lacks, needs.train_seconds, needs.examples) == (("cuda", "disk"), None, 12_000)
