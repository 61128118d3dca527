"""The machine's resources: the device of programs, cores, free memory, and aligned memory that XLA reads without a copy.

A fork of a process in which JAX has run lacks JAX's threads; `check_process` refuses to compute there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import DTypeLike

from mlejax import misuse

from .limits import limits

__all__ = ["aligned", "check_process", "device_kind", "free_memory", "is_aligned", "n_cores", "of_many_processes", "on_cpu"]

FORKED = (
    "this process is a fork of one in which JAX has run: JAX's threads do not exist here, and a computation would wait for ever. "
    "Start new processes by multiprocessing.get_context('spawn') or 'forkserver', or by joblib (loky); models can be sent to "
    "them. Tables, intervals and Wald tests of finished results work in this process, too"
)
ALIGNMENT = 64  # bytes; XLA copies arrays of NumPy that begin elsewhere


class _Process:
    """Flags of this process: JAX has run in it (``used``); it is a fork that lacks JAX's threads (``without_threads``)."""

    used = False
    used_at_fork = False
    without_threads = False

    def before_fork(self) -> None:
        self.used_at_fork = self.used or _xla_threads()

    def in_child(self) -> None:
        self.without_threads = self.without_threads or self.used_at_fork


def _xla_threads() -> bool:
    """Return True if threads of XLA run in this process; False where the system does not list threads (not Linux)."""
    try:
        return any((task / "comm").read_text().startswith("tf_XLA") for task in Path("/proc/self/task").iterdir())
    except OSError:
        return False


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_process.before_fork, after_in_child=_process.in_child)


def check_process() -> None:
    """Record that JAX is used in this process; every program calls this before it runs.

    Raises:
        RuntimeError: this process is a fork of one in which JAX has run.
    """
    if _process.without_threads:
        raise misuse.linked(RuntimeError(FORKED), "fork")
    _process.used = True


def device_kind() -> str:
    """Return JAX's name of the platform where programs run: "cpu", "gpu" or "tpu"."""
    return jax.default_backend()


def mesh_of(given: Mesh | Sequence[jax.Device] | jax.Device | None, axis: str) -> Mesh:
    """Return a mesh with one axis, named ``axis``, of the devices given as a mesh of any shape, a list or one device."""
    many = given.devices.reshape(-1) if isinstance(given, Mesh) else np.atleast_1d(np.array(given, dtype=object))
    return Mesh(many, (axis,))


def of_many_processes(given: Mesh | Sequence[jax.Device] | jax.Device | None) -> bool:
    """Return True if these devices belong to more than one process (``jax.distributed``)."""
    if jax.process_count() == 1:
        return False
    return len({device.process_index for device in mesh_of(given, "x").devices.reshape(-1)}) > 1


def on_cpu() -> bool:
    """Return True if programs run on the CPU."""
    return limits().on_cpu


def n_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if (cores := limits().cores) is not None:
        return cores
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> float:
    """Return the free memory of the device where programs run (the first, of several), in bytes; that of the host if the device
    does not report it, and 4e9 if the host does not.
    """
    if not on_cpu():
        found = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in found:
            return float(found["bytes_limit"] - found.get("bytes_in_use", 0))
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4e9


def is_aligned(a: np.ndarray) -> bool:
    """Return True if this array begins at a multiple of 64 bytes, so that XLA reads it without a copy."""
    return a.ctypes.data % ALIGNMENT == 0


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an uninitialised array that begins at a multiple of 64 bytes, so that XLA reads it without a copy.

    >>> is_aligned(aligned((3, 2), np.float64))
    True
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    begin = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[begin : begin + size].view(dtype).reshape(shape)
