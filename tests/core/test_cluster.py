"""Ray is optional, and a cluster that was there before goes on."""

import importlib.util
import subprocess
import sys

import pytest

from toolkit.core.cluster import ray_cluster as connected
from toolkit.core.errors import EnvironmentLacks


def test_without_ray_one_line_says_how_to_get_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with (
        pytest.raises(EnvironmentLacks, match=r"needs Ray, which is not installed\. Install it with `pip install"),
        connected(),
    ):
        pass


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install ray")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(EnvironmentLacks, match=r"cluster 127\.0\.0\.1:9 does not answer"), connected():
        pass


def test_a_connection_of_the_caller_s_is_used_and_left(ray_cluster):
    import ray

    before = ray.get_runtime_context().get_node_id()
    with connected():
        assert ray.get_runtime_context().get_node_id() == before
    assert ray.is_initialized()


def test_the_local_engine_loads_no_ray(tmp_path):
    code = f"import sys, toolkit; toolkit.build_dataset({str(tmp_path / 'data')!r}); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
