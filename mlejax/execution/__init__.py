"""How computations run: devices, threads, memory, chunks of data, compilation, float64, passes over traced programs."""

from .activity import doing, progress_bar, progress_line
from .caching import cached
from .compilation import compiled, enable_compilation_cache, evaluated, inlined
from .devices import aligned, device_kind, free_memory, is_aligned, mesh_of, n_cores, on_cpu
from .limits import Limits, limits, use_limits
from .precision import float64, in_float64
from .threads import kept_pool, run_tasks

__all__ = [
    "Limits",
    "aligned",
    "cached",
    "compiled",
    "device_kind",
    "doing",
    "enable_compilation_cache",
    "evaluated",
    "float64",
    "free_memory",
    "in_float64",
    "inlined",
    "is_aligned",
    "kept_pool",
    "limits",
    "mesh_of",
    "n_cores",
    "on_cpu",
    "progress_bar",
    "progress_line",
    "run_tasks",
    "use_limits",
]
