"""Several processes that train one adapter: each reads a share of every step, and the gradients are added up.

torchrun, `accelerate launch` or `launch` start them. To the Trainer each is alone, with a GPU of its own: all take the
same steps on the same sums, and the first one alone writes. Gradients are added here and not by PyTorch's DDP, whose
order of addition depends on the number of processes: Adam would amplify the rounding.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from toolkit.core.errors import EnvironmentLacks, InputError, ToolkitError, library_errors
from toolkit.model.memory import device_kind

if TYPE_CHECKING:
    from subprocess import Popen

    import torch

T = TypeVar("T")

# `accelerate launch --use_fsdp`.
WANTS_FSDP = os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
# How accelerate recognises several processes, and that it shall wrap their model.
SEEN_BY_ACCELERATE = (
    "ACCELERATE_USE_FSDP",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
)
# Longer than the first process writes, or measures, while the others wait for it.
PATIENCE = timedelta(hours=2)
# Numbers that are gathered from all processes at once.
AT_ONCE = 2**24
# A process that ends without whoever started it was lost.
STARTED_BY = os.getppid()
# Seconds that the others have to end by themselves once a process failed.
GRACE = 5.0


class ProcessLost(ToolkitError):
    """Another process ended; whoever started them says which and why."""

    exit_code = 75


def started() -> int:
    """How many processes torchrun, `accelerate launch` or `launch` started; 1 where none of them did."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Let the processes that were started together know one another inside the block, and no library see them.

    Raises:
        EnvironmentLacks: A process has no GPU of its own.
        ProcessLost: One of the others ended.
    """
    import torch.distributed as dist

    joins = started() > 1 and not dist.is_initialized()
    if started() > 1:
        _take_own_gpu()
    if joins:
        hook = sys.excepthook
        with _together():
            dist.init_process_group(timeout=PATIENCE)
        # torch puts its own around it, which loses what is printed by one that exits.
        sys.excepthook = hook
    hidden = {name: os.environ.pop(name) for name in SEEN_BY_ACCELERATE if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
        if joins:
            dist.destroy_process_group()


def _take_own_gpu() -> None:
    """Leave one GPU to be seen, before CUDA looks for them: torch's current device is not respected everywhere."""
    import torch

    if (kind := device_kind()) in ("xpu", "mps"):
        raise EnvironmentLacks(f"Several processes share CPUs or CUDA GPUs, and here is torch's {kind}.", "Start one.")
    if not (count := torch.cuda.device_count()) or int(os.environ.get("LOCAL_RANK", 0)) == count - 1 == 0:
        return
    if (place := int(os.environ["LOCAL_RANK"])) >= count:
        raise EnvironmentLacks(f"There are {count} GPUs here, and each process takes one.", "Start fewer processes.")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible_gpus()[place]


def visible_gpus() -> list[str]:
    """The GPUs of this process, as `CUDA_VISIBLE_DEVICES` names them; none where there are none."""
    import torch

    seen = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return [gpu for gpu in seen.split(",") if gpu]


def threads_of_each(processes: int) -> str:
    """`OMP_NUM_THREADS` for each of several processes on this machine: what is set, else a share of the cores."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes))


def rank() -> int:
    """Number of this process among those that train together."""
    import torch.distributed as dist

    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_initialized() else 1


def in_turns(work: Callable[[], T]) -> T:
    """The result of `work` in each process: in the first one, then in the first of each machine, then in the rest.

    So what is downloaded is there before the others look. An error in one is raised in all.
    """
    first_here = rank() % int(os.environ.get("LOCAL_WORLD_SIZE", 1)) == 0
    return _sharing_errors(work, 0 if rank() == 0 else 1 if first_here else 2)


def at_once(work: Callable[[], T]) -> T:
    """The result of `work` in each process, in all at once. An error in one is raised in all."""
    return _sharing_errors(work, 0)


def by_the_first(work: Callable[[], object]) -> None:
    """Do something in the first process alone, while the others wait for its end, and share its error."""
    at_once(lambda: work() if rank() == 0 else None)


def _sharing_errors(work: Callable[[], T], own_turn: int) -> T:
    done: list[T] = []
    for turn in range(3):
        failed: tuple[type[ToolkitError], str, str] | None = None
        try:
            if turn == own_turn:
                done.append(work())
        except ToolkitError as error:
            if world() == 1:
                raise
            failed = type(error), error.found, error.remedy
        for number, wrong in enumerate(_gathered(failed)):
            if wrong is not None:
                kind, found, remedy = wrong
                raise kind(f"Process {number} of {world()}: {found}" if number else found, remedy)
    return done[0]


def check_same(facts: Mapping[str, object]) -> None:
    """Check that all processes are about to train the same.

    Raises:
        InputError: One has another value of a fact.
    """
    everyone = _gathered(dict(facts))
    for number, others in enumerate(everyone):
        if differing := [name for name, value in facts.items() if others[name] != everyone[0][name]]:
            raise InputError(
                f"Process {number} of {world()} has another {differing[0]} than the first: {others[differing[0]]}, "
                f"not {everyone[0][differing[0]]}.",
                "Give all machines the same versions, files and folders.",
            )


def any_of(flag: bool) -> bool:
    """Whether a flag is true in any process."""
    import torch
    import torch.distributed as dist

    if world() == 1:
        return flag
    flags = torch.tensor(int(flag))
    with _together():
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


def left_alone() -> bool:
    """Whether one of several processes lost the one that started it."""
    return world() > 1 and os.getppid() != STARTED_BY


def dealt(items: Sequence[T]) -> Sequence[T]:
    """This process's share: items are dealt in turns.

    All get the same number: what would wait for the others reads an item again, so that all take the same passes.
    """
    return [items[(first + rank()) % len(items)] for first in range(0, len(items), world())]


def collected(shares: Sequence[T], count: int) -> list[T]:
    """What all processes made of their `dealt` shares of `count` items, in the order of the items."""
    return [each for turn in zip(*_gathered(list(shares)), strict=True) for each in turn][:count]


def added_up(vectors: Sequence[torch.Tensor], count: int) -> torch.Tensor:
    """The sum of `count` vectors, `[size]`, one for each `dealt` item of all processes, in the order of the items."""
    import torch
    import torch.distributed as dist

    own = torch.stack([*vectors])
    total = torch.empty_like(own[0])
    width = max(1, AT_ONCE // (world() * len(own)))
    for part, into in zip(torch.split(own, width, dim=1), torch.split(total, width), strict=True):
        everyone = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(world())]
        with _together():
            dist.all_gather(everyone, part.contiguous())
        first, *others = [each[place] for place in range(len(own)) for each in everyone][:count]
        into.copy_(first)
        for other in others:
            into += other
    return total


def _gathered(value: T) -> list[T]:
    """A value of each process, in their order."""
    import torch.distributed as dist

    everyone: list[Any] = [value] * world()
    if world() > 1:
        with _together():
            dist.all_gather_object(everyone, value)
    return everyone


@contextmanager
def _together() -> Iterator[None]:
    """Say of an error inside the block that another process ended."""
    with library_errors("Another process of this training ended", "Its own error says why.", ProcessLost):
        yield


def _wait_for_an_end(workers: Sequence[Popen[bytes]]) -> None:
    """Wait until all have ended; once one has failed, no longer than the others need to see and say it themselves."""
    due = math.inf
    while time.monotonic() < due and any(worker.poll() is None for worker in workers):
        if due == math.inf and any(worker.returncode for worker in workers):
            due = time.monotonic() + GRACE
        time.sleep(0.1)


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run `pkt` with these arguments in processes that train together on this machine, and wait for their end.

    Signals are passed on to them; when one ends by an error, the others are ended.

    Returns:
        The exit code; where it is not 0, the first process said why.

    Raises:
        ToolkitError: Another process than the first failed, or one was killed.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, SubprocessContext

    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # Held by this process, so that no other program can take the port meanwhile.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": store.host,
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RUN_ID": "pkt",
        "OMP_NUM_THREADS": threads_of_each(processes),
    }
    environments = {place: shared | {"RANK": str(place), "LOCAL_RANK": str(place)} for place in range(processes)}
    with tempfile.TemporaryDirectory(prefix="pkt-") as folder:
        command = dict.fromkeys(environments, ("-m", "toolkit", *arguments))
        context = SubprocessContext("pkt", sys.executable, command, environments, DefaultLogsSpecs(folder))
        context.start()
        asked, ended = None, None
        while ended is None:
            try:
                if asked is not None:
                    # As long as a step and its checkpoint take.
                    context.close(asked, timeout=int(PATIENCE.total_seconds()))
                _wait_for_an_end([handler.proc for handler in context.subprocess_handlers.values()])
                ended = context.wait()
            except SignalException as signalled:
                asked = signalled.sigval
    if not ended.failures:
        return 0
    # Those that lost another process, or were ended here, come last.
    place, failure = min(
        ended.failures.items(),
        key=lambda item: (item[1].exitcode == ProcessLost.exit_code, item[1].exitcode == -signal.SIGTERM, item[0] != 0),
    )
    if place == 0 and 0 < failure.exitcode != ProcessLost.exit_code:
        # It said itself what was wrong.
        return int(failure.exitcode)
    if asked is not None and failure.exitcode < 0:
        return 128 + asked
    again = "The same command, without `restart`, continues from the last checkpoint."
    if isinstance(recorded := failure.error_file_data["message"], dict):
        error = ToolkitError(f"Process {place} of {processes}:", recorded["message"])
        error.exit_code = failure.exitcode
        raise error
    by = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    memory = ", as the system does when memory runs out" if failure.exitcode == -signal.SIGKILL else ""
    raise ToolkitError(f"Process {place} of {processes} ended by {by}{memory}, and the others with it.", again)
