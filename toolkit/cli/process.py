"""What the command line does to its process: how its threads wait, and what it does not import.

torch, transformers and peft import whatever they find installed (bitsandbytes, and with it torch's compiler; scipy;
sklearn), and Python looks for garbage many times meanwhile: together more than a third of the wait for a first answer,
and a tenth of the memory of a small training.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# By a training on rows that are lists already.
UNUSED_IN_TRAINING = ("datasets", "scipy", "sklearn")
# By answers of a base that is not quantised. pyarrow, which they do without too, would stumble over missing pandas.
UNUSED_IN_ANSWERS = ("bitsandbytes", "pandas", *UNUSED_IN_TRAINING)

# Cores that others keep busy, from which on spinning costs more than it gains.
OTHERS = 0.33


def keep_out(libraries: Sequence[str]) -> None:
    """From now on these libraries count as not installed, unless they are loaded already."""
    modules: dict[str, Any] = sys.modules
    for name in libraries:
        # What the import system itself takes for "there is no such module".
        modules.setdefault(name, None)


def wait_asleep() -> None:
    """Threads that wait for each other sleep, unless the user chose otherwise. Call before torch is imported.

    They would spin. A small model is a thousand short waits a second, and beside other busy programs each lasts until
    the system takes the core from the one that spins: on two busy cores the same names took 1.4 s instead of 20 s, and
    a step of the demo's training 0.7 to 4 s instead of 2.3 to 29 s. On idle cores such a step takes twice as long so.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def wait_beside_others() -> None:
    """The same where other programs are busy now, which is looked at for a tenth of a second."""
    if "OMP_WAIT_POLICY" not in os.environ and busy_cores() > OTHERS:
        wait_asleep()


def busy_cores() -> float:
    """How many of the machine's cores are at work while this process waits."""
    import psutil

    return float(psutil.cpu_percent(interval=0.1)) / 100 * (os.cpu_count() or 1)


@contextmanager
def no_collecting() -> Iterator[None]:
    """Garbage is not looked for inside the block, nor ever among what it leaves behind: modules live to the end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
