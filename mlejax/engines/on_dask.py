"""Passes on a Dask cluster: a future a partition; of a Dask DataFrame a task on each of its partitions."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from mlejax.data.streams import Batch, Partition
from mlejax.engines.tasks import packed, run, unpacked

RETRIES = 2  # of a task whose worker was lost


class Dask:
    """A ``distributed.Client`` as an engine.

    Args:
        client: connected.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(self, work: Any, partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`."""
        task = packed(work)
        futures = [self._submitted(task, partition) for partition in partitions]
        try:
            for future in futures:
                yield unpacked(future.result())
        finally:
            self.client.cancel([future for future in futures if not future.done()])

    def _submitted(self, task: bytes, partition: Any) -> Any:
        if not isinstance(partition, Delayed):
            return self.client.submit(run, task, partition, pure=False, retries=RETRIES)
        import dask

        later = dask.delayed(run_on_table, pure=False)(task, partition.name, partition.delayed)
        return self.client.compute(later, retries=RETRIES)


def run_on_table(task: bytes, name: str, table: Any) -> bytes:
    """The work on a partition that Dask has computed."""
    return run(task, Batch(name, table))


@dataclass(frozen=True)
class Delayed:
    """A partition of a Dask DataFrame, computed where the work is done.

    Attributes:
        name: for messages.
        delayed: of Dask.
    """

    name: str
    delayed: Any

    def read(self, columns: Any = None) -> Any:
        """The partition, computed here."""
        return self.delayed.compute()


@dataclass(frozen=True)
class DaskFrame:
    """A Dask DataFrame as a source: its partitions are computed in every pass, unless it was persisted.

    Attributes:
        frame: of Dask.
    """

    frame: Any

    def peek(self) -> Any:
        """Some rows with all columns."""
        return self.frame.head(256, npartitions=-1, compute=True)

    def partitions(self) -> list[Delayed]:
        """In order."""
        return [Delayed(f"partition {i}", part) for i, part in enumerate(self.frame.to_delayed())]
