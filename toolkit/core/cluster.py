"""A Ray cluster to compute on: the one that Ray is configured for, else one of this machine that ends with the work."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from toolkit.core.errors import EnvironmentLacks, first_line, library_errors

# Ray sends statistics of use unless they are refused.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
OF_THIS_MACHINE = {
    "address": "local",
    "include_dashboard": False,
    "log_to_driver": False,
    "logging_level": logging.ERROR,
}
HOW_TO_GET_RAY = "`pip install ray`"


def has_ray() -> bool:
    """Whether Ray is installed; imports nothing."""
    return importlib.util.find_spec("ray") is not None


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Connect this process to Ray, and at the end of the block end what this started.

    A connection that the caller opened is used and left. With `RAY_ADDRESS` in the environment it is that cluster,
    which goes on; its machines have the same versions of Python, Ray and this toolkit. Else Ray starts on this
    machine with all of its cores.

    Raises:
        EnvironmentLacks: Ray is not installed, does not start, or no cluster answers.
    """
    if not has_ray():
        raise EnvironmentLacks(
            '`engine="ray"` needs Ray, which is not installed.', f"Install it with {HOW_TO_GET_RAY}."
        )
    os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    found = f"Ray's cluster {address} does not answer" if address else "Ray does not start on this machine"
    remedy = (
        "Check RAY_ADDRESS, and set RAY_AUTH_MODE=token where it wants its token."
        if address
        else 'Free some memory, or use `engine="local"`.'
    )
    if host := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or ""):
        # Ray itself waits without end for a cluster that is not there.
        with library_errors(found, remedy, EnvironmentLacks):
            socket.create_connection((host[1], int(host[2])), timeout=10).close()
    try:
        with library_errors(found, remedy, EnvironmentLacks):
            ray.init(**(OF_THIS_MACHINE | ({"address": address, "include_dashboard": None} if address else {})))
        yield
    finally:
        # Of a cluster that was there before, only the connection ends.
        ray.shutdown()


@contextmanager
def ray_errors() -> Iterator[None]:
    """Raise what a task raised, as if it had run here."""
    from ray.exceptions import RayError, RayTaskError

    try:
        yield
    except RayError as error:
        cause: BaseException = error
        while isinstance(cause, RayTaskError):
            cause = cause.cause
        if not isinstance(cause, RayError):
            raise cause from error
        found = f"A task on the Ray cluster was not finished: {first_line(cause)}"
        remedy = "Give its workers more memory, install the same version of pkt on all its machines, and try again."
        raise EnvironmentLacks(found, remedy) from error
