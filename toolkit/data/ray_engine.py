"""Rows in batches on a Ray cluster: they lie in its object store, and functions of batches run as its tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit import __version__
from toolkit.core import ignore
from toolkit.core.cluster import ray_cluster, ray_errors
from toolkit.core.errors import EnvironmentLacks
from toolkit.core.workers import EngineName
from toolkit.data.batches import Done, Engine, Found, Function, Group, LocalEngine, Made

if TYPE_CHECKING:
    import pyarrow as pa

# How often a task runs again whose worker died; Ray Data's own answer, without end, would hide one that kills each.
RETRIES = 10
# Results for each core that are made before they are asked for.
AHEAD = 3
# Rows that are put in order by one task.
PART_ROWS = 100_000


@contextmanager
def open_engine(name: EngineName) -> Iterator[Engine]:
    """The engine of this name: `local`, or `ray` with the cluster of `ray_cluster`.

    Raises:
        EnvironmentLacks: Ray is not installed, or there is no cluster.
    """
    if name == "local":
        yield LocalEngine()
        return
    with ray_cluster():
        yield RayEngine()


class Batch(NamedTuple):
    """A table in the object store, and how many rows it has."""

    table: Any
    rows: int


class RayEngine:
    """Keeps batches in the object store of the cluster that this process is connected to (`ray_cluster`).

    Of a task whose worker dies, Ray runs the same again on the same batch, and the order of rows is that of the
    batches: nothing is lost, nothing is there twice, and the results are those of the local engine.

    All methods raise EnvironmentLacks when workers die again and again.
    """

    def load(self, function: Function, batches: Iterable[pa.Table], done: Done = ignore) -> list[Batch]:
        """Batches in the object store, which moves to the disk what is too much for its memory."""

        shared = _shared(function)
        return _finished((_task(_make).options(num_returns=2).remote(shared, batch) for batch in batches), done)

    def map(self, function: Function, rows: list[Batch], reads: Sequence[str], done: Done = ignore) -> list[Batch]:
        """Batches with further columns."""

        shared = _shared(function)
        extend = _task(_extend).options(num_returns=2)
        return _finished([extend.remote(shared, batch.table, reads) for batch in rows], done)

    def stream(
        self, function: Function, rows: list[Batch], reads: Sequence[str], done: Done = ignore
    ) -> Iterator[pa.Table]:
        """What the function makes of each batch, not far ahead of who takes it."""

        shared = _shared(function)
        calls = (_task(_apply).remote(shared, batch.table, reads) for batch in rows)
        for made, count in zip(_fetched(calls), accumulate(batch.rows for batch in rows), strict=True):
            yield made
            done(count)

    def group(
        self,
        function: Function,
        rows: list[Batch],
        reads: Sequence[str],
        whole: Callable[[Iterable[pa.Table]], Made],
        each: Callable[[Made, Group], Found],
        groups: Iterable[Group],
    ) -> Iterator[Found]:
        """What is found in each group, each a task; the whole lies in the object store, once on each machine."""
        import ray

        shared = _shared(function)
        batches = [_task(_apply).remote(shared, batch.table, reads) for batch in rows]
        ray.wait(batches, num_returns=len(batches), fetch_local=False)
        made = _task(_whole).remote(whole, batches)
        return _fetched(_task(_each).remote(each, made, group) for group in groups)

    def collect(self, rows: list[Batch], columns: Sequence[str]) -> pa.Table:
        """Some columns, fetched from each batch."""
        import pyarrow as pa

        return pa.concat_tables(_fetched(_task(_select).remote(batch.table, columns) for batch in rows))

    def take(
        self, rows: list[Batch], columns: Sequence[str], places: NDArray[np.intp], size: int
    ) -> Iterator[pa.Table]:
        """Rows in another order, part by part: each batch gives the rows that a part has of it, and a task joins them.

        No process holds more than a batch and a part.
        """
        starts = np.cumsum([0, *(batch.rows for batch in rows)])
        step = max(PART_ROWS // size, 1) * size

        def joined(part: NDArray[np.intp]) -> Any:
            owner = np.searchsorted(starts, part, side="right") - 1
            order = np.argsort(owner, kind="stable")
            given, first = np.unique(owner[order], return_index=True)
            cuts = zip(given.tolist(), np.split(part[order], first[1:]), strict=True)
            pieces = [_task(_rows).remote(rows[batch].table, columns, cut - starts[batch]) for batch, cut in cuts]
            return _task(_join).remote(np.argsort(order), *pieces)

        for table in _fetched(joined(places[start : start + step]) for start in range(0, len(places), step)):
            # A slice would travel on with the whole table behind it.
            yield from (table.take(np.arange(len(table))[start : start + size]) for start in range(0, len(table), size))


@cache
def _task(function: Callable[..., Any]) -> Any:
    import ray

    return ray.remote(max_retries=RETRIES)(function)


def _fetched(calls: Iterable[Any]) -> Iterator[Any]:
    """The results of tasks in their order; a few are started ahead."""
    import ray

    started: deque[Any] = deque()
    ahead = AHEAD * int(ray.cluster_resources().get("CPU", 1))
    for call in calls:
        started.append(call)
        if len(started) >= ahead:
            with ray_errors():
                made = ray.get(started.popleft())
            yield made
    while started:
        with ray_errors():
            made = ray.get(started.popleft())
        yield made


def _finished(calls: Iterable[tuple[Any, Any]], done: Done) -> list[Batch]:
    """Batches by the references to each table and its number of rows, when all are made."""
    tables: deque[Any] = deque()

    def counts() -> Iterator[Any]:
        for table, rows in calls:
            tables.append(table)
            yield rows

    finished, total = [], 0
    # A task that failed says so to who fetches what it made: the number of rows is small.
    for rows in _fetched(counts()):
        finished.append(Batch(tables.popleft(), rows))
        total += rows
        done(total)
    # Columns of no rows have no types.
    return [batch for batch in finished if batch.rows] or finished[:1]


def _shared(function: Function) -> list[Any]:
    """A function for many tasks, as a reference in a list, which Ray does not follow: a worker keeps what it builds."""
    import ray

    return [ray.put((function, __version__))]


# What runs on workers.
@lru_cache(maxsize=1)
def _function(shared: Any) -> Any:
    import ray

    function, version = ray.get(shared)
    if version != __version__:
        raise EnvironmentLacks(
            f"A machine of the Ray cluster has version {__version__} of pkt, this one {version}.",
            "Install the same on all.",
        )
    return function


def _make(shared: Sequence[Any], batch: pa.Table) -> tuple[pa.Table, int]:
    made = _function(shared[0])(batch)
    return made, len(made)


def _apply(shared: Sequence[Any], batch: pa.Table, reads: Sequence[str]) -> pa.Table:
    return _function(shared[0])(batch.select(reads))


def _extend(shared: Sequence[Any], batch: pa.Table, reads: Sequence[str]) -> tuple[pa.Table, int]:
    made = _apply(shared, batch, reads)
    for name in made.column_names:
        batch = batch.drop_columns([name] if name in batch.column_names else []).append_column(name, made[name])
    return batch, len(batch)


def _whole(whole: Callable[[Iterable[pa.Table]], Made], batches: Sequence[Any]) -> Made:
    import ray

    return whole(map(ray.get, batches))


def _each(each: Callable[[Made, Group], Found], whole: Made, group: Group) -> Found:
    return each(whole, group)


def _select(batch: pa.Table, columns: Sequence[str]) -> pa.Table:
    return batch.select(columns)


def _rows(batch: pa.Table, columns: Sequence[str], places: NDArray[np.intp]) -> pa.Table:
    return batch.select(columns).take(places)


def _join(order: NDArray[np.intp], *pieces: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(pieces).combine_chunks().take(order)
