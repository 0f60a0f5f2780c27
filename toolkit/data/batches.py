"""Rows in batches: an engine keeps them and runs functions on them; here is the one for a single machine.

A function takes a batch with the columns that it reads and returns columns of as many rows. What it must know beside
them it holds itself, and it can be pickled, so that it runs in any process; texts stay in the batches.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from itertools import chain
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from toolkit.core import ignore
from toolkit.core.errors import EnvironmentLacks

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 5_000
# Starting processes takes a second.
FEWEST_FOR_PROCESSES = 50_000
MOST_PROCESSES = 8
PRELOADED = ["pyarrow.compute", "toolkit.data.build"]

Given = TypeVar("Given", bound=Sized)
Made = TypeVar("Made")
Group = TypeVar("Group")
Found = TypeVar("Found")
Function = Callable[["pa.Table"], "pa.Table"]
Done = Callable[[int], None]
Rows = Any
"""What an engine keeps: rows in order, in batches."""


class Engine(Protocol):
    """Where the rows of a dataset are kept, and where functions of batches run."""

    def load(self, function: Function, batches: Iterable[pa.Table], done: Done = ignore) -> Rows:
        """Keep what `function` makes of batches of at most `BATCH_ROWS` rows, which are read meanwhile."""

    def map(self, function: Function, rows: Rows, reads: Sequence[str], done: Done = ignore) -> Rows:
        """The same rows with the columns that `function` makes of the columns `reads`, added or in place of old ones.

        Args:
            done: Called with how many rows are done.
        """

    def stream(self, function: Function, rows: Rows, reads: Sequence[str], done: Done = ignore) -> Iterator[pa.Table]:
        """What `function` makes of each batch, in order; it is not kept."""

    def group(
        self,
        function: Function,
        rows: Rows,
        reads: Sequence[str],
        whole: Callable[[Iterable[pa.Table]], Made],
        each: Callable[[Made, Group], Found],
        groups: Iterable[Group],
    ) -> Iterator[Found]:
        """What `each` finds, for each of some groups, in what `whole` makes of all that `stream` yields."""

    def collect(self, rows: Rows, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows, in order: small ones."""

    def take(self, rows: Rows, columns: Sequence[str], places: NDArray[np.intp], size: int) -> Iterator[pa.Table]:
        """The rows at these places, in this order, in tables of `size` rows."""


class LocalEngine:
    """Keeps the rows in memory as one table; its functions run in several processes where there are many rows."""

    def load(self, function: Function, batches: Iterable[pa.Table], done: Done = ignore) -> pa.Table:
        """Keep all that it makes."""
        import pyarrow as pa

        return pa.concat_tables(_counted(run_batches(function, batches), done))

    def map(self, function: Function, rows: pa.Table, reads: Sequence[str], done: Done = ignore) -> pa.Table:
        """The table with further columns."""
        import pyarrow as pa

        made = pa.concat_tables(self.stream(function, rows, reads, done))
        for name in made.column_names:
            rows = rows.drop_columns([name] if name in rows.column_names else []).append_column(name, made[name])
        return rows

    def stream(
        self, function: Function, rows: pa.Table, reads: Sequence[str], done: Done = ignore
    ) -> Iterator[pa.Table]:
        """What the function makes of each batch."""
        import pyarrow as pa

        read = rows.select(reads)
        batches = (pa.Table.from_batches([batch]) for batch in read.to_batches(BATCH_ROWS) if len(batch))
        yield from _counted(run_batches(function, batches if len(rows) else [read]), done)

    def group(
        self,
        function: Function,
        rows: pa.Table,
        reads: Sequence[str],
        whole: Callable[[Iterable[pa.Table]], Made],
        each: Callable[[Made, Group], Found],
        groups: Iterable[Group],
    ) -> Iterator[Found]:
        """What is found in each group; numpy computes in several threads at once."""
        made = whole(self.stream(function, rows, reads))
        with ThreadPoolExecutor(cores()) as pool:
            yield from pool.map(partial(each, made), groups)

    def collect(self, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Some columns of the table."""
        return rows.select(columns)

    def take(self, rows: pa.Table, columns: Sequence[str], places: NDArray[np.intp], size: int) -> Iterator[pa.Table]:
        """Rows of the table, which is copied to one piece: each `take` of many pieces copies them all."""
        whole = rows.select(columns).combine_chunks()
        return (whole.take(places[start : start + size]) for start in range(0, len(places), size))


def cores() -> int:
    """How many cores this process may use, `MOST_PROCESSES` at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, MOST_PROCESSES)


def _counted(batches: Iterable[pa.Table], done: Done) -> Iterator[pa.Table]:
    count = 0
    for batch in batches:
        yield batch
        count += len(batch)
        done(count)


def run_batches(function: Callable[[Given], Made], batches: Iterable[Given]) -> Iterator[Made]:
    """What `function` makes of each batch, in order; in several processes where the batches have many rows in all.

    Raises:
        EnvironmentLacks: One of the processes was killed.
    """
    processes, batches, ahead, rows = cores(), iter(batches), [], 0
    while rows < FEWEST_FOR_PROCESSES and (batch := next(batches, None)) is not None:
        ahead.append(batch)
        rows += len(batch)
    if rows < FEWEST_FOR_PROCESSES or processes < 2:
        yield from map(function, chain(ahead, batches))
        return
    # A fork of this process would not have the threads of the libraries that it uses.
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(PRELOADED)
    waiting: deque[Future[Made]] = deque()
    pool = ProcessPoolExecutor(processes, context, _begin, (function,))
    try:
        for batch in chain(ahead, batches):
            waiting.append(_submit(pool, batch))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise EnvironmentLacks(
            "A process that works on the rows was killed, perhaps because the memory was full.",
            "Run the command again, with less beside it.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
        release_memory()


def release_memory() -> None:
    """Give what was freed back to the system: between steps that is more than what is held, and workers need it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    # Other C libraries than glibc have no such call, and keep less.
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _submit(pool: ProcessPoolExecutor, batch: Any) -> Future[Any]:
    """Submit a batch; a process that this starts does not run the caller's script, which may build a dataset again."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        return pool.submit(_run, batch)
    finally:
        sys.modules["__main__"] = main


_function: Callable[[Any], Any]


def _begin(function: Callable[[Any], Any]) -> None:
    """Make a new process ready: it leaves Ctrl-C to its parent, and ends when that was killed."""
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := parent_process()) is not None:
        watch = threading.Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True)
        watch.start()


def _run(batch: Any) -> Any:
    return _function(batch)
