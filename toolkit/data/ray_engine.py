"""Rows in batches on a Ray cluster: they lie in its object store, and functions of batches run as its tasks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toolkit.core import ignore, workers
from toolkit.core.cluster import ray_cluster, ray_errors
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
def open_engine(name: workers.Engine) -> Iterator[Engine]:
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
        import ray

        shared = ray.put(function)
        return _finished((_task(_make).options(num_returns=2).remote([shared], batch) for batch in batches), done)

    def map(self, function: Function, rows: list[Batch], reads: Sequence[str], done: Done = ignore) -> list[Batch]:
        """Batches with further columns."""
        import ray

        shared = ray.put(function)
        extend = _task(_extend).options(num_returns=2)
        return _finished([extend.remote([shared], batch.table, reads) for batch in rows], done)

    def stream(
        self, function: Function, rows: list[Batch], reads: Sequence[str], done: Done = ignore
    ) -> Iterator[pa.Table]:
        """What the function makes of each batch, not far ahead of who takes it."""
        import ray

        shared = ray.put(function)
        calls = (_task(_apply).remote([shared], batch.table, reads) for batch in rows)
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

        shared = ray.put(function)
        batches = [_task(_apply).remote([shared], batch.table, reads) for batch in rows]
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
        """Rows in another order: each batch is cut by the parts of the result, and each part is joined.

        No process holds more than a batch and a part.
        """
        starts = np.cumsum([0, *(batch.rows for batch in rows)])
        owner = np.searchsorted(starts, places, side="right") - 1
        by_batch = np.argsort(owner, kind="stable")
        bounds = np.searchsorted(owner[by_batch], np.arange(len(rows) + 1))
        step = max(PART_ROWS // size, 1) * size
        parts = [range(start, min(start + step, len(places))) for start in range(0, len(places), step)]
        pieces: list[list[Any]] = [[] for _ in parts]
        order: list[list[NDArray[np.intp]]] = [[] for _ in parts]
        for batch, start, (first, last) in zip(rows, starts, pairwise(bounds), strict=False):
            wanted = by_batch[first:last]
            cuts = np.split(wanted, np.searchsorted(wanted, [part.start for part in parts[1:]]))
            filled = [number for number, cut in enumerate(cuts) if len(cut)]
            if not filled:
                continue
            cut_task = _task(_cut).options(num_returns=len(filled))
            made = cut_task.remote(batch.table, columns, [places[cuts[number]] - start for number in filled])
            for number, piece in zip(filled, made if len(filled) > 1 else [made], strict=True):
                pieces[number].append(piece)
                order[number].append(cuts[number])
        joins = (
            _task(_join).remote(np.argsort(np.concatenate(cuts)), *part)
            for part, cuts in zip(pieces, order, strict=True)
        )
        for table in _fetched(joins):
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


# What runs on workers. A function comes as a reference in a list, which Ray does not follow: what it builds of its
# facts is kept between batches.
@lru_cache(maxsize=1)
def _function(shared: Any) -> Function:
    import ray

    function: Function = ray.get(shared)
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


def _cut(batch: pa.Table, columns: Sequence[str], places: Sequence[NDArray[np.intp]]) -> Any:
    pieces = [batch.select(columns).take(some) for some in places]
    return pieces if len(pieces) > 1 else pieces[0]


def _join(order: NDArray[np.intp], *pieces: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(pieces).combine_chunks().take(order)
