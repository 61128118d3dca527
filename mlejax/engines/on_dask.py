"""Passes on a Dask cluster: a future a partition; of a Dask DataFrame a task on each of its partitions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlejax.data.streams import Partition
from mlejax.engines.tasks import Held, in_order, packed, run, run_on_table
from mlejax.shapes import Data

if TYPE_CHECKING:
    import dask.dataframe as dd

RETRIES = 3  # of a task whose worker was lost
AHEAD = 16  # tasks a thread of the cluster


class Dask:
    """A ``distributed.Client`` as an engine.

    Args:
        client: connected.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`."""
        task, ahead = packed(work), AHEAD * max(1, sum(self.client.nthreads().values()))

        def submit(partition: Partition) -> Any:
            if not isinstance(partition, Held):
                return self.client.submit(run, task, partition, pure=False, retries=RETRIES)
            import dask

            later = dask.delayed(run_on_table, pure=False)(task, partition.name, partition.handle)
            return self.client.compute(later, retries=RETRIES)

        return in_order(partitions, submit, lambda future: future.result(), self.client.cancel, ahead)


@dataclass(frozen=True)
class DaskFrame:
    """A Dask DataFrame as a source: its partitions are computed in every pass, unless it was persisted.

    Attributes:
        frame: of Dask.
    """

    frame: dd.DataFrame

    def peek(self) -> Data:
        """Some rows with all columns."""
        return self.frame.head(256, npartitions=-1, compute=True)

    def partitions(self) -> list[Held]:
        """In order."""
        return [Held(f"partition {i}", part, lambda d: d.compute()) for i, part in enumerate(self.frame.to_delayed())]

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> DaskFrame:
        """These columns, all rows of a group in one partition: a shuffle."""
        return DaskFrame(self.frame[list(columns)].shuffle(on=list(by)))
