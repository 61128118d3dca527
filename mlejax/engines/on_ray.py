"""Passes on Ray: a plain task a partition, of files that all workers see, or of the blocks of a Ray Dataset."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlejax.data import DataTypeError
from mlejax.data.streams import Partition
from mlejax.engines.tasks import Held, in_order, packed, run, run_on_table
from mlejax.shapes import Data

if TYPE_CHECKING:
    import ray

AHEAD = 16  # tasks a core of the cluster


class Ray:
    """The module ``ray`` after ``ray.init()`` as an engine.

    Args:
        ray: the module.
    """

    def __init__(self, ray: ModuleType) -> None:
        if not ray.is_initialized():
            raise DataTypeError("on=ray expected a connection: call ray.init() first")
        self.ray = ray

    def map(self, work: Callable[[Partition], Any], partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`."""
        ray, task = self.ray, self.ray.put(packed(work))
        of_file, of_block = ray.remote(run), ray.remote(run_on_table)
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))

        def submit(partition: Partition) -> Any:
            if isinstance(partition, Held):
                return of_block.remote(task, partition.name, partition.handle)
            return of_file.remote(task, partition)

        def cancel(tasks: list[Any]) -> None:
            for one in tasks:
                ray.cancel(one)

        return in_order(partitions, submit, ray.get, cancel, ahead)


class RayData:
    """A Ray Dataset as a source; its blocks are kept in Ray's store, in Arrow.

    Args:
        dataset: of Ray.
    """

    def __init__(self, dataset: ray.data.Dataset) -> None:
        self.dataset = dataset

    @cached_property
    def _blocks(self) -> list[Held]:
        import ray

        blocks = self.dataset.materialize().to_arrow_refs()
        return [Held(f"block {i}", reference, ray.get) for i, reference in enumerate(blocks)]

    def peek(self) -> Data:
        """The first block that has rows."""
        tables = (block.read() for block in self._blocks)
        return next((table for table in tables if table.num_rows), self._blocks[0].read())

    def partitions(self) -> list[Held]:
        """In order."""
        return self._blocks

    def grouped(self, by: Sequence[str], columns: Sequence[str]) -> RayData:
        """These columns, sorted by group: Ray divides sorted rows between groups."""
        return RayData(self.dataset.select_columns(list(columns)).sort(list(by)))
