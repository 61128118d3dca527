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
    "Start processes anew, by multiprocessing.get_context('spawn') or 'forkserver' or by joblib (loky): models travel to them. "
    "Tables, intervals and Wald tests of finished results work here too"
)
ALIGNMENT = 64  # bytes; XLA copies arrays of NumPy that begin elsewhere


class _Process:
    """Whether JAX has run in this process, and whether a fork has left its threads behind."""

    used = False
    used_at_fork = False
    without_threads = False

    def before_fork(self) -> None:
        self.used_at_fork = self.used or _xla_threads()

    def in_child(self) -> None:
        self.without_threads = self.without_threads or self.used_at_fork


def _xla_threads() -> bool:
    """Whether threads of XLA run in this process, where the system lists threads by name (Linux)."""
    try:
        return any((task / "comm").read_text().startswith("tf_XLA") for task in Path("/proc/self/task").iterdir())
    except OSError:
        return False


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_process.before_fork, after_in_child=_process.in_child)


def check_process() -> None:
    """To be called before a program runs.

    Raises:
        RuntimeError: in a fork of a process in which JAX has run.
    """
    if _process.without_threads:
        raise misuse.linked(RuntimeError(FORKED), "fork")
    _process.used = True


def device_kind() -> str:
    """JAX's name of the kind of device where programs run: "cpu", "gpu", "tpu"."""
    return jax.default_backend()


def mesh_of(given: Mesh | Sequence[jax.Device] | jax.Device | None, axis: str) -> Mesh:
    """A list of devices, one device, or a mesh of any shape as a mesh of one axis."""
    many = given.devices.reshape(-1) if isinstance(given, Mesh) else np.atleast_1d(np.array(given, dtype=object))
    return Mesh(many, (axis,))


def of_many_processes(given: Mesh | Sequence[jax.Device] | jax.Device | None) -> bool:
    """Whether devices, or a mesh of them, belong to several processes (``jax.distributed``)."""
    if jax.process_count() == 1:
        return False
    return len({device.process_index for device in mesh_of(given, "x").devices.reshape(-1)}) > 1


def on_cpu() -> bool:
    """Whether programs run on the host's cores; on a GPU, larger chunks are faster."""
    return limits().on_cpu


def n_cores() -> int:
    """Cores that this process may use."""
    if (cores := limits().cores) is not None:
        return cores
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> float:
    """Bytes that are free on the device where programs run; 4e9 where the system does not say."""
    if not on_cpu():
        found = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in found:
            return float(found["bytes_limit"] - found.get("bytes_in_use", 0))
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):
        return 4e9


def is_aligned(a: np.ndarray) -> bool:
    """Whether XLA reads this array without a copy."""
    return a.ctypes.data % ALIGNMENT == 0


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """An array like `np.empty(shape, dtype)` that begins at a multiple of 64 bytes, so that XLA reads it without a copy.

    >>> is_aligned(aligned((3, 2), np.float64))
    True
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    begin = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[begin : begin + size].view(dtype).reshape(shape)
