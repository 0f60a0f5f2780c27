"""A Ray cluster of two workers that all tests share."""

import pytest

from toolkit.core import cluster


@pytest.fixture(scope="session")
def ray_cluster():
    """Connect this process to a small cluster, which cannot import test files; skip where Ray is not installed."""
    if not cluster.has_ray():
        pytest.skip("Ray is not installed: pip install ray")
    import ray

    ray.init(num_cpus=2, object_store_memory=200 * 2**20, **cluster.OF_THIS_MACHINE)
    yield
    ray.shutdown()
