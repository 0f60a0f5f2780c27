"""Whether this machine has room: disk to download and write to, memory to load and train a base. Downloads nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from toolkit.core.errors import EnvironmentLacks
from toolkit.core.folder import unwritable
from toolkit.core.recipe import Recipe
from toolkit.model.machine import Machine, free_disk, matrix_flops
from toolkit.model.requirements import Shape, gigabytes, load_bytes, step_seconds, train_bytes

GO_ON = "Choose a smaller one with --base, use a machine with more, or try `pkt run demo`."


def check_disk(base: str, download: int, cache: Path) -> None:
    """See that a download fits into the cache.

    Raises:
        EnvironmentLacks: It does not.
    """
    free = free_disk(cache)
    if download > free:
        raise EnvironmentLacks(
            f"The base {base} takes {gigabytes(download)} to download, and {cache} has {gigabytes(free)} free.",
            "Free some space, set HF_HUB_CACHE to a folder with more, or choose a smaller one with --base.",
        )


def check_memory(base: str, shape: Shape, quantization: str, machine: Machine) -> None:
    """See that the base can be loaded.

    Raises:
        EnvironmentLacks: The whole memory of this machine is less than it needs.
    """
    needed = load_bytes(shape, quantization, machine.compute)
    if needed > machine.memory:
        how = "in NF4" if quantization == "nf4" else f"in {machine.compute}"
        raise EnvironmentLacks(
            f"The base {base} needs about {gigabytes(needed)} of memory {how}, and {_whose(machine)}.", GO_ON
        )


def check_training(base: str, shape: Shape, recipe: Recipe, machine: Machine, note: Callable[[str], None]) -> None:
    """See that the base can be trained by the recipe, and say what the user had better know before the download.

    Raises:
        EnvironmentLacks: Not even single rows of usual length fit into this machine's memory.
    """
    check_memory(base, shape, recipe.training.quantization, machine)
    least = least_to_train(shape, recipe, machine.compute)
    if least > machine.memory:
        raise EnvironmentLacks(
            f"The base {base} needs about {gigabytes(least)} of memory to be trained, and {_whose(machine)}.", GO_ON
        )
    if machine.gpu is None:
        time = time_on_a_cpu(shape, recipe, matrix_flops())
        note(f"There is no GPU: {time}. Faster are a GPU, a smaller --base, or `pkt run demo`.")


def least_to_train(shape: Shape, recipe: Recipe, compute: str) -> int:
    """Bytes that training takes when it goes over to single rows of usual length, and to checkpoints where it may."""
    checkpoints = "off" if recipe.training.gradient_checkpointing == "off" else "on"
    thrifty = {"micro_batch_size": 1, "gradient_checkpointing": checkpoints}
    return train_bytes(shape, recipe.lora, recipe.training.model_copy(update=thrifty), compute)


def time_on_a_cpu(shape: Shape, recipe: Recipe, flops: float) -> str:
    """How long training takes on a CPU of this speed, in words."""
    seconds, steps = step_seconds(shape, recipe.training, flops), recipe.training.max_steps
    whole = f", and {steps:,} take {_about(seconds * steps)}" if steps else ""
    return f"a step takes about {_about(seconds)} on this CPU{whole}"


def _about(seconds: float) -> str:
    """A duration no more exact than it is known: `40 s`, `28 min`, `1.9 h`, `62 days`."""
    if seconds < 0.1:
        return "0.1 s or less"
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 100)):
        if seconds < most * size:
            return f"{seconds / size:.1f} {unit}" if seconds < 9.5 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _whose(machine: Machine) -> str:
    owner = f"the GPU {machine.gpu}" if machine.gpu else "this machine"
    return f"{owner} has {gigabytes(machine.memory)}"


@contextmanager
def full_disk_is_clear(folder: Path) -> Iterator[None]:
    """Name a full disk as such, which the libraries wrap in errors of their own.

    Raises:
        EnvironmentLacks: In the place of theirs; InputError where the folder can not be written.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(folder, error) from error
    except (RuntimeError, SafetensorError) as error:
        said = str(error)
        if "No space left" in said or "file write failed" in said or "PytorchStreamWriter failed" in said:
            raise unwritable(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
