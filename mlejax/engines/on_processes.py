"""Several processes under JAX's own runtime (``jax.distributed``: MPI, Slurm, pods), each with its own rows.

Every process evaluates its own rows, and all processes gather the results of all.  So every process has the same sums, takes
the same steps and ends with the same result; an error or Ctrl-C in one process is raised in all.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from mlejax.data.read import ingest
from mlejax.data.streams import Partition, StreamBatch, Threads
from mlejax.shapes import Data

ROWS = 1 << 18  # of a partition


class Processes:
    """Engine that runs a task in all processes of ``jax.distributed.initialize``, each on its own partitions; all of them must
    call ``map`` with the same task.
    """

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield the results for the partitions of all processes: those of process 0 in order, then those of process 1, and so on.

        ``partitions`` are those of this process. An error in any process, a KeyboardInterrupt too, is raised in all.
        """
        import cloudpickle

        mine: Any = []
        try:
            with closing(Threads().map(work, partitions)) as found:
                mine.extend(found)
        except BaseException as error:  # Ctrl-C too: the others would wait for ever
            error.add_note(f"This happened in process {jax.process_index()} of {jax.process_count()}.")
            mine = error
        each = [pickle.loads(part) for part in _gathered(cloudpickle.dumps(mine))]
        for found_there in each:
            if isinstance(found_there, BaseException):
                raise found_there
        for found_there in each:
            yield from found_there


def _gathered(mine: bytes) -> list[bytes]:
    """Return the bytes that each process gave, in the order of processes, on every process; waits for all of them.

    Raises:
        RuntimeError: JAX could not gather them, for instance because a process has ended.
    """
    from jax.experimental.multihost_utils import process_allgather

    try:
        sizes = np.asarray(process_allgather(np.array([len(mine)], np.int32))).reshape(-1)
        full = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)  # few sizes: each is a program
        full[: len(mine)] = np.frombuffer(mine, np.uint8)
        found = np.asarray(process_allgather(full)).reshape(len(sizes), -1)
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        raise RuntimeError(
            f"process {jax.process_index()} of {jax.process_count()} could not exchange its sums with the others, as happens "
            "where one of them has ended or cannot be reached.  This step has no result; start all processes again"
        ) from error
    return [row[:size].tobytes() for row, size in zip(found, sizes, strict=True)]


@dataclass(frozen=True)
class OwnRows:
    """The rows of this process as a source of partitions: those of a stream, or of a table in memory 2^18 rows each.

    Attributes:
        data: the user's data.
    """

    data: Data = field(repr=False)

    @cached_property
    def _tables(self) -> list[StreamBatch]:
        table = ingest(self.data)
        n = table.most_rows
        process = jax.process_index()
        return [
            StreamBatch(f"process {process}, rows {a} to {min(a + ROWS, n) - 1}", table.take(slice(a, a + ROWS)))
            for a in range(0, n, ROWS)
        ]

    def peek(self) -> Data:
        """Return the first rows: those that a stream shows, or at most 256 of a table."""
        return self.data.peek() if hasattr(self.data, "peek") else ingest(self.data).take(slice(0, 256))

    def partitions(self) -> Iterable[Partition]:
        """Return the partitions of this process, in order."""
        found: Iterable[Partition] = self.data.partitions() if hasattr(self.data, "partitions") else self._tables
        return found
