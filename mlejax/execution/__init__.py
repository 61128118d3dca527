"""All that depends on the machine: devices, cores, threads, chunks, memory, compilation, LAPACK's limits, traced programs."""

from .caching import cached
from .compilation import compiled, enable_compilation_cache
from .devices import aligned, free_memory, is_aligned, n_cores, on_cpu

__all__ = [
    "aligned",
    "cached",
    "compiled",
    "enable_compilation_cache",
    "free_memory",
    "is_aligned",
    "n_cores",
    "on_cpu",
]
