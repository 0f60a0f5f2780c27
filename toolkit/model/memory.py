"""Memory that runs out, the machine's or the GPU's: one clear error, and giving back what nothing holds."""

from __future__ import annotations

import errno
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.core.errors import EnvironmentLacks

# cuBLAS and CUDA have words of their own.
NO_MEMORY = re.compile(r"(can't|cannot) allocate memory|out of memory|ALLOC_FAILED", re.IGNORECASE)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn running out of memory inside the block, the machine's or the GPU's, into one clear error.

    Raises:
        EnvironmentLacks: In its place.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not lacks_memory(error):
            raise
        raise EnvironmentLacks(
            "There is not enough memory.",
            "Close other programs, hold the base in 4 bits (--quantization nf4), or choose a smaller one.",
        ) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the machine's or the GPU's.

    Beside its own class, torch raises plain RuntimeErrors: on a CPU, and from the libraries of a GPU.
    """
    known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return known or NO_MEMORY.search(str(error)) is not None


def free_cache() -> None:
    """Give back memory that nothing holds any more."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
