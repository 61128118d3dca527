"""Passes on Spark: descriptions of partitions go through ``mapInArrow``, sums come back; files are read by the workers.

Of a Spark DataFrame the rows themselves go through ``mapInArrow``, sorted by group: complete groups are cut from the stream of
record batches, many at a time (``applyInArrow`` would call for each group).
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
    """A ``SparkSession`` as an engine.

    Args:
        session: of pyspark.
    """

    def __init__(self, session: SparkSession) -> None:
        self.session = session

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`; of a DataFrame the number of results is that of its record batches or groups."""
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
    """The work on record batches of descriptions; on a worker.

    Attributes:
        task: packed.
    """

    task: bytes

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Record batches of numbers and results."""
        for batch in batches:
            found = [run(self.task, pickle.loads(p.as_py())) for p in batch.column(1)]
            yield _record(batch.column(0), found)


@dataclass(frozen=True)
class OnRows:
    """The work on a partition's rows; on a worker.

    Attributes:
        task: packed.
        by: columns of groups by which the rows are sorted; or none, and every record batch is worked on by itself.
    """

    task: bytes
    by: tuple[str, ...]

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Record batches of numbers and results."""
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
    """A Spark DataFrame as a source; a single partition, which Spark divides itself.

    Attributes:
        frame: of Spark.
        by: columns of groups by which the rows of its partitions are sorted.
    """

    frame: DataFrame
    by: tuple[str, ...] = ()
    name: str = "the Spark DataFrame"

    def peek(self) -> Data:
        """Some rows with all columns."""
        return self.frame.limit(256).toArrow()

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """All rows, here."""
        return self.frame.toArrow()

    def partitions(self) -> list[SparkFrame]:
        """Itself."""
        return [self]

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> SparkFrame:
        """These columns, all rows of a group next to each other in one partition."""
        keys = [f"`{name}`" for name in by]
        frame = self.frame.select(*(f"`{name}`" for name in columns))
        return SparkFrame(frame.repartition(*keys).sortWithinPartitions(*keys), tuple(by))
