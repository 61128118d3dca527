"""Thresholds that depend on the machine: sizes at which one way of computing becomes faster than another, or too large.

`limits` gives those of the device where programs run.  Tests pass their own::

    with use_limits(Limits.for_device("gpu")):
        model.fit(data)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import jax

__all__ = ["Limits", "limits", "overriding_limits", "use_limits"]

_MB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Thresholds, for a CPU by default.

    Attributes:
        on_cpu: programs run on the host's cores.
        cores: cores to use; None for all that this process may use.
        block_rows: rows (or units) whose derivatives are taken together: they fit the cache, or fill a GPU.
        chunk_rows: rows of one data set in one call of a program; None for all.
        max_threads: threads that evaluate one data set.
        chunks_ahead: chunks that are asked for before a result is waited for.
        long_work: rows times parameters from which XLA may take its time over the code.
        short_work: rows times parameters below which the code may be slower and compile faster.
        invariants_memory: memory for what depends on the data alone, as a multiple of the data's.
        streamed_bytes: size of a table from which its rows are not copied.
        read_rows: rows of a table that are read at a time.
        grouped_rows: rows of groups that are fitted together where they come from a stream.
        sampled_rows: rows (or units) from which a start is sought on a sample.
        dense_parameters: parameters up to which a Hessian is formed.
        first_dispatch: steps of an optimiser in the first call of its program.
        dispatch_work: rows times parameters from which the first call makes two steps.
        memory_share: share of the free memory that chunks of data sets may take where the user sets no limit.
        max_workers: threads that work on chunks of data sets.
        chunk_bytes: size of a chunk of data sets; twice that where the optimiser copies nothing.
        chunk_data_sets: data sets of a chunk.
        cache_bytes: data and derivatives that are worked on together on a CPU.
        max_width: data sets that are worked on together.
        few_data_sets: data sets that remain, up to which none is deferred for the sake of others.
        rows_at_once: rows of all data sets that are worked on together on a GPU.
        single_rows: rows from which a data set is worked on by itself on a CPU.
        described_numbers: coordinates of data sets that are described in one call on a CPU.
        threaded_numbers: entries of information matrices from which threads describe faster than one does.
        answered_data_sets: data sets of a chunk for questions about few of them, on a CPU.
        lapack_work: operations in one call of LAPACK that stay on its thread, below the 200,000 of jaxlib.
        lapack_points: points at which a log-likelihood is evaluated in one call, at least.
    """

    on_cpu: bool = True
    cores: int | None = None
    block_rows: int = 4096
    chunk_rows: int | None = 16_384
    max_threads: int = 8
    chunks_ahead: int = 2
    long_work: int = 20_000_000
    short_work: int = 16_384
    invariants_memory: float = 2.0
    streamed_bytes: int = 256 * _MB
    read_rows: int = 1 << 16
    grouped_rows: int = 1 << 18
    sampled_rows: int = 65_536
    dense_parameters: int = 2000
    first_dispatch: int = 32
    dispatch_work: int = 10_000_000
    memory_share: float = 0.25
    max_workers: int = 16
    chunk_bytes: int = 16 * _MB
    chunk_data_sets: int = 2048
    cache_bytes: int = _MB
    max_width: int = 64
    few_data_sets: int = 64
    rows_at_once: int = 1 << 22
    single_rows: int = 5000
    described_numbers: int = 8192
    threaded_numbers: int = 1_000_000
    answered_data_sets: int = 64
    lapack_work: int = 150_000
    lapack_points: int = 8

    @classmethod
    def for_device(cls, platform: str) -> Limits:
        """The thresholds for ``"cpu"``, or for any other platform of JAX those of a GPU.

        Chunks for a GPU are fewer and larger, since each waits for its copy; one is copied while another is worked on.

        Example:
            >>> Limits.for_device("cpu").block_rows, Limits.for_device("gpu").block_rows
            (4096, 131072)
        """
        if platform == "cpu":
            return cls()
        return cls(
            on_cpu=False,
            block_rows=1 << 17,
            chunk_rows=None,
            max_workers=2,
            chunk_bytes=256 * _MB,
            chunk_data_sets=16_384,
            max_width=16_384,
        )


_override: Limits | None = None


def overriding_limits() -> Limits | None:
    """The limits that `use_limits` has set, if any; programs traced under them are kept apart."""
    return _override


def limits() -> Limits:
    """The limits in force."""
    return _of_this_machine() if _override is None else _override


@cache  # JAX takes a lock to say which platform it is
def _of_this_machine() -> Limits:
    return Limits.for_device(jax.default_backend())


@contextmanager
def use_limits(new: Limits) -> Iterator[None]:
    """Use other limits in the whole process, in all of its threads; for tests.

    Example:
        >>> with use_limits(Limits(block_rows=512)):
        ...     limits().block_rows
        512
    """
    global _override
    before, _override = _override, new
    try:
        yield
    finally:
        _override = before
