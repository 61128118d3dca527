"""Evaluate partitions on Spark: ``mapInArrow`` sends pickled partitions to workers, which read the files and return sums.

For a Spark DataFrame the rows themselves pass through ``mapInArrow``, sorted by group; the worker splits the record batches into
complete groups, many at a time (``applyInArrow`` would make one call for each group).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlejax.data.streams import Partition, whole_groups
from mlejax.engines.tasks import packed, run, run_on_table, unpacked
from mlejax.shapes import Data

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FOUND = "i long, found binary"


class Spark:
    """Engine that runs tasks through a ``SparkSession``.

    Args:
        session: the SparkSession of pyspark.
    """

    def __init__(self, session: SparkSession) -> None:
        self.session = session

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield the results of ``work``, in order, after Spark has run it on all partitions: one result for each partition; if
        the only partition is a `SparkFrame`, one for each record batch, or, with groups, for each table of complete groups.

        An error in a worker is raised here.
        """
        import cloudpickle

        worker: OnRows | OnDescriptions
        given = list(partitions)
        if len(given) == 1 and isinstance(given[0], SparkFrame):
            table, worker = given[0].frame, OnRows(packed(work), given[0].by)
        else:
            rows = [(i, bytearray(cloudpickle.dumps(p))) for i, p in enumerate(given)]
            slices = max(1, min(len(rows), self.session.sparkContext.defaultParallelism))
            table = self.session.createDataFrame(rows, "i long, partition binary").repartitionByRange(slices, "i")
            worker = OnDescriptions(packed(work))
        found = table.mapInArrow(worker, FOUND).collect()
        for row in sorted(found, key=lambda row: row["i"]):
            yield unpacked(bytes(row["found"]))


@dataclass(frozen=True)
class OnDescriptions:
    """The function given to ``mapInArrow`` that runs the task on pickled partitions, in a Spark worker.

    Attributes:
        task: the function of one partition, as cloudpickle bytes.
    """

    task: bytes

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield, for each record batch of (number, pickled partition), one of (number, pickled result of `run`)."""
        for batch in batches:
            found = [run(self.task, pickle.loads(p.as_py())) for p in batch.column(1)]
            yield _record(batch.column(0), found)


@dataclass(frozen=True)
class OnRows:
    """The function given to ``mapInArrow`` that runs the task on the rows of a DataFrame, in a Spark worker.

    Attributes:
        task: the function of one partition, as cloudpickle bytes.
        by: group columns by which the rows are sorted, so that each call gets complete groups; if empty, each record batch
            is one call.
    """

    task: bytes
    by: tuple[str, ...]

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield, for each call, a record batch of one row: a number that orders the calls, and the pickled result of `run`."""
        from pyspark import TaskContext

        number = TaskContext.get().partitionId()
        for i, table in enumerate(whole_groups(batches, self.by) if self.by else batches):
            found = run_on_table(self.task, f"partition {number}, rows {i}", table)
            yield _record([(number << 32) + i], [found])


def _record(numbers: Any, found: list[bytes]) -> Any:
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64()), pa.array(found, pa.binary())], ["i", "found"])


@dataclass(frozen=True)
class SparkFrame:
    """A Spark DataFrame as a source with a single partition, itself, which Spark divides.

    Attributes:
        frame: the Spark DataFrame.
        by: columns of groups by which the rows are sorted within Spark's partitions; empty if they are not.
        name: the name of the partition in messages.
    """

    frame: DataFrame
    by: tuple[str, ...] = ()
    name: str = "the Spark DataFrame"

    def peek(self) -> Data:
        """Return the first 256 rows, with all columns, as a pyarrow Table."""
        return self.frame.limit(256).toArrow()

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """Return all rows and columns, in the driver's memory, as a pyarrow Table."""
        return self.frame.toArrow()

    def partitions(self) -> list[SparkFrame]:
        """Return a list with this source as the only partition."""
        return [self]

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> SparkFrame:
        """Return a source with these ``columns``, in which all rows of a group (columns ``by``) are next to each other in one
        Spark partition.
        """
        keys = [f"`{name}`" for name in by]
        frame = self.frame.select(*(f"`{name}`" for name in columns))
        return SparkFrame(frame.repartition(*keys).sortWithinPartitions(*keys), tuple(by))
