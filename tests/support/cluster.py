"""A Ray cluster of two workers that all tests share."""

import importlib.util

import pytest


@pytest.fixture(scope="session")
def ray_cluster():
    """Connect this process to a small cluster, which cannot import test files; skip where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'ray[data]'")
    import ray

    from toolkit.core import cluster

    with pytest.MonkeyPatch.context() as patch:
        # Of the machine's cluster, if there is one, tests take no notice.
        patch.delenv("RAY_ADDRESS", raising=False)
        # Without "local", Ray connects to one that runs here.
        ray.init("local", num_cpus=2, object_store_memory=200 * 2**20, **cluster.OF_THIS_MACHINE)
    yield
    ray.shutdown()
