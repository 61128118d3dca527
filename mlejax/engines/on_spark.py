"""Passes on Spark: descriptions of partitions go through ``mapInArrow``, sums come back; files are read by the workers."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterable, Iterator
from typing import Any

from mlejax.data.streams import Partition
from mlejax.engines.tasks import packed, run, unpacked


class Spark:
    """A ``SparkSession`` as an engine.

    Args:
        session: of pyspark.
    """

    def __init__(self, session: Any) -> None:
        self.session = session

    def map(self, work: Any, partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`."""
        import cloudpickle

        rows = [(i, bytearray(cloudpickle.dumps(p))) for i, p in enumerate(partitions)]
        slices = max(1, min(len(rows), self.session.sparkContext.defaultParallelism))
        table = self.session.createDataFrame(rows, "i long, partition binary").repartitionByRange(slices, "i")
        found = table.mapInArrow(Worker(packed(work)), "i long, found binary").collect()
        for row in sorted(found, key=lambda row: row["i"]):
            yield unpacked(bytes(row["found"]))


class Worker:
    """The work on record batches of descriptions; on a worker.

    Args:
        task: packed.
    """

    def __init__(self, task: bytes) -> None:
        self.task = task

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Record batches of numbers and results."""
        import pyarrow as pa

        for batch in batches:
            numbers = batch.column(0)
            found = [run(self.task, pickle.loads(p.as_py())) for p in batch.column(1)]
            yield pa.RecordBatch.from_arrays([numbers, pa.array(found, pa.binary())], ["i", "found"])
