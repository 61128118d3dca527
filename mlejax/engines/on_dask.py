"""Evaluate partitions on a Dask cluster, one future for each; also the partitions of a Dask DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlejax.data.streams import Partition
from mlejax.engines.tasks import EnginePartition, in_order, packed, run, run_on_table
from mlejax.shapes import Data

if TYPE_CHECKING:
    import dask.dataframe as dd

RETRIES = 3  # of a task whose worker was lost
AHEAD = 16  # tasks submitted in advance for each thread of the cluster


class Dask:
    """Engine that runs tasks through a ``distributed.Client``.

    Args:
        client: a connected client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield the result of ``work`` for each partition, in order; a task whose worker is lost runs again, up to three times.
        An error in a task is raised, and the others are cancelled.
        """
        task, ahead = packed(work), AHEAD * max(1, sum(self.client.nthreads().values()))

        def submit(partition: Partition) -> Any:
            if not isinstance(partition, EnginePartition):
                return self.client.submit(run, task, partition, pure=False, retries=RETRIES)
            import dask

            later = dask.delayed(run_on_table, pure=False)(task, partition.name, partition.handle)
            return self.client.compute(later, retries=RETRIES)

        return in_order(partitions, submit, lambda future: future.result(), self.client.cancel, ahead)


@dataclass(frozen=True)
class DaskFrame:
    """A Dask DataFrame as a source of partitions, which are computed again in every pass unless the DataFrame is persisted.

    Attributes:
        frame: the Dask DataFrame.
    """

    frame: dd.DataFrame

    def peek(self) -> Data:
        """Return the first 256 rows, with all columns, as a pandas DataFrame."""
        return self.frame.head(256, npartitions=-1, compute=True)

    def partitions(self) -> list[EnginePartition]:
        """Return the partitions in order; they are computed on the cluster when a task needs them."""
        return [EnginePartition(f"partition {i}", part, lambda d: d.compute()) for i, part in enumerate(self.frame.to_delayed())]

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> DaskFrame:
        """Return a source with these ``columns``, shuffled so that all rows of a group are in one partition; ``by`` names the
        columns of groups.
        """
        return DaskFrame(self.frame[list(columns)].shuffle(on=list(by)))
