"""Tasks in; their results, computed in this process or by workers of a Ray cluster, as they come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from toolkit.core.cluster import ray_cluster, ray_errors
from toolkit.core.errors import EnvironmentLacks

Task = TypeVar("Task")
Result = TypeVar("Result")
EngineName = Literal["local", "ray"]
# A task that ended so many workers, as one for which the memory is too small, ends the work.
TRIES = 10


def spread(
    load: Callable[[], Callable[[Task], Result]], tasks: Iterable[Task | None], engine: EngineName
) -> Iterator[Result]:
    """The result of each task. No more tasks are taken than there are workers.

    A worker of Ray has a GPU of its own where the cluster has some, and computes with as many threads as this process
    would, so that sums have the same last digits. What a worker that dies was doing is done again, by its successor.

    Args:
        load: Makes what does a task; called once in each worker, before its first task. It, tasks and results travel as
            pickles, and the result must not depend on the tasks before.
        tasks: Read one by one; at a None, the next is read when the results of all before were taken.
        engine: Where they are done.

    Raises:
        EnvironmentLacks: Ray is not installed, or the cluster has no machine for a worker; or workers die at a task.
        Exception: What a task raises.
    """
    if engine == "local":
        worker = _Worker(load)
        yield from (worker.do(task) for task in tasks if task is not None)
        return
    with ray_cluster():
        yield from _in_ray(load, tasks)


class _Worker:
    """What does tasks, loaded with the first of them: an error of loading is then that task's."""

    def __init__(self, load: Callable[[], Callable[[Any], Any]], threads: int = 0, folder: str = ".") -> None:
        self._load, self._threads, self._folder = load, threads, folder

    @cached_property
    def _work(self) -> Callable[[Any], Any]:
        if self._threads:
            import torch

            torch.set_num_threads(self._threads)
        # Relative paths mean the same here, where there is such a folder.
        with suppress(FileNotFoundError):
            os.chdir(self._folder)
        return self._load()

    def do(self, task: Any) -> Any:
        """The result of a task."""
        return self._work(task)


def _in_ray(load: Callable[[], Callable[[Any], Any]], tasks: Iterable[Any]) -> Iterator[Any]:
    import ray
    import torch
    from ray.util import ActorPool

    threads = torch.get_num_threads()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    count = gpus or sum(int(machine.get("CPU", 0)) // threads for machine in machines)
    if not count:
        raise EnvironmentLacks(
            f"No machine of Ray's cluster has {threads} cores for a worker, as many threads as are used here.",
            "Set OMP_NUM_THREADS to fewer.",
        )
    needs = {"num_cpus": 0 if gpus else threads, "num_gpus": 1 if gpus else 0}
    kind = ray.remote(max_restarts=-1, max_task_retries=TRIES, **needs)(_Worker)
    actors = [kind.remote(load, threads, str(Path.cwd())) for _ in range(count)]
    pool = ActorPool(actors)
    try:
        with ray_errors():
            for task in tasks:
                while pool.has_next() and (task is None or not pool.has_free()):
                    yield pool.get_next_unordered()
                if task is not None:
                    pool.submit(lambda actor, given: actor.do.remote(given), task)
            while pool.has_next():
                yield pool.get_next_unordered()
    finally:
        for actor in actors:
            ray.kill(actor)
