"""Thresholds that depend on the machine: sizes from which another way of computing is faster, or needed to save memory.

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
    """Sizes at which the way of computing changes; the defaults are those for a CPU.

    "From" means that larger sizes are treated so; "up to", smaller ones.

    Attributes:
        on_cpu: True if programs run on the CPU.
        cores: number of CPU cores to use; None for all that this process may use.
        block_rows: rows (or units) differentiated together: few enough for the cache of a CPU, enough to fill a GPU.
        chunk_rows: rows of one data set in one call of a program; None for all.
        max_threads: threads that evaluate one data set.
        chunks_ahead: chunks submitted before the result of the first is awaited.
        long_work: rows times parameters from which programs are compiled with XLA's full optimisation.
        short_work: rows times parameters below which programs are compiled with less optimisation, faster.
        invariants_memory: memory for precomputed functions of the data alone, as a multiple of the size of the data.
        streamed_bytes: size of a table from which its rows are not copied, but read from the user's arrays.
        read_rows: rows of a table that are read at a time.
        grouped_rows: rows of the groups of a stream that are fitted together.
        sampled_rows: rows (or units) from which start values are sought on a sample of the data.
        stream_sample_rows: rows of a stream that are loaded into memory as its sample; fewer if it has many columns.
        batch_sample_rows: rows of one batch of a stream in that sample, at most.
        dense_parameters: number of parameters up to which the Hessian matrix is computed.
        first_dispatch: iterations of an optimiser in the first call of its program.
        dispatch_work: rows times parameters from which the first call makes two iterations only.
        memory_share: share of the free memory that chunks of data sets may take if the user sets no limit.
        max_workers: threads that work on chunks of data sets.
        chunk_bytes: size of a chunk of data sets; twice that if chunks are views of the table, without a copy.
        chunk_data_sets: largest number of data sets in a chunk.
        cache_bytes: size of the data and derivatives of the data sets that a CPU evaluates together.
        max_width: largest number of data sets evaluated together.
        few_data_sets: number of unfinished data sets up to which all are continued, none put off until others have finished.
        rows_at_once: rows, over all data sets, that a GPU evaluates together.
        single_rows: rows from which a CPU evaluates a data set by itself.
        described_numbers: coordinates, over all data sets, that are converted to the natural scale in one call on a CPU.
        threaded_numbers: entries of information matrices from which several threads convert them faster than one.
        answered_data_sets: largest number of data sets in a chunk, on a CPU, for checks that concern few data sets.
        lapack_work: operations of one call of LAPACK that jaxlib does not split among threads; jaxlib's bound is 200,000.
        lapack_points: number of points at which one call evaluates a log-likelihood at least, for that bound.
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
    stream_sample_rows: int = 1 << 19
    batch_sample_rows: int = 8192
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
        """Return the thresholds for a platform of JAX: ``"cpu"``, or any other, which is treated as a GPU.

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
    """Return the limits set by `use_limits`, or None; part of the key of compiled programs, which depend on them."""
    return _override


def limits() -> Limits:
    """Return the thresholds to use now: those set by `use_limits`, else those of the device where programs run."""
    return _of_this_machine() if _override is None else _override


@cache  # JAX takes a lock to say which platform it is
def _of_this_machine() -> Limits:
    return Limits.for_device(jax.default_backend())


@contextmanager
def use_limits(new: Limits) -> Iterator[None]:
    """Context manager: use other limits in all threads of this process; for tests.

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
