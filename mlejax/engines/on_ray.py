"""Evaluate partitions on Ray, one task for each: parts of files that all workers can read, or blocks of a Ray Dataset."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlejax.data import DataTypeError
from mlejax.data.streams import Partition
from mlejax.engines.tasks import EnginePartition, in_order, packed, run, run_on_table
from mlejax.shapes import Data

if TYPE_CHECKING:
    import ray

AHEAD = 16  # tasks submitted in advance for each core of the cluster


class Ray:
    """Engine that runs tasks through the module ``ray`` after ``ray.init()``.

    Args:
        ray: the module.

    Raises:
        DataTypeError: ``ray.init()`` was not called.
    """

    def __init__(self, ray: ModuleType) -> None:
        if not ray.is_initialized():
            raise DataTypeError("on=ray needs a connection to a cluster: call ray.init() first")
        self.ray = ray

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """Yield the result of ``work`` for each partition, in order; an error in a task is raised, and the others are
        cancelled.
        """
        ray, task = self.ray, self.ray.put(packed(work))
        of_file, of_block = ray.remote(run), ray.remote(run_on_table)
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))

        def submit(partition: Partition) -> Any:
            if isinstance(partition, EnginePartition):
                return of_block.remote(task, partition.name, partition.handle)
            return of_file.remote(task, partition)

        def cancel(tasks: list[Any]) -> None:
            for one in tasks:
                ray.cancel(one)

        return in_order(partitions, submit, ray.get, cancel, ahead)


class RayData:
    """A Ray Dataset as a source of partitions; its blocks are kept in Ray's object store, in Arrow format.

    Args:
        dataset: the Ray Dataset.
    """

    def __init__(self, dataset: ray.data.Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def _blocks(self) -> list[EnginePartition]:
        import ray

        blocks = self.dataset.materialize().to_arrow_refs()
        return [EnginePartition(f"block {i}", reference, ray.get) for i, reference in enumerate(blocks)]

    def peek(self) -> Data:
        """Return the first block that has rows, as a pyarrow Table; the first block if none has."""
        tables = (block.read() for block in self._blocks)
        return next((table for table in tables if table.num_rows), self._blocks[0].read())

    def partitions(self) -> list[EnginePartition]:
        """Return the blocks in order; the Dataset is computed at the first call."""
        return self._blocks

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> RayData:
        """Return a source with these ``columns``, sorted by the columns ``by`` of groups: groups are consecutive rows, which may
        continue in the next block.
        """
        return RayData(self.dataset.select_columns(list(columns)).sort(list(by)))
