"""Passes on Ray: a plain task a partition, of files that all workers see, or of the blocks of a Ray Dataset."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from mlejax.data import DataTypeError
from mlejax.data.streams import Batch, Partition
from mlejax.engines.tasks import packed, run, unpacked


class Ray:
    """The module ``ray`` after ``ray.init()`` as an engine.

    Args:
        ray: the module.
    """

    def __init__(self, ray: Any) -> None:
        if not ray.is_initialized():
            raise DataTypeError("on=ray expected a connection: call ray.init() first")
        self.ray = ray

    def map(self, work: Any, partitions: Iterable[Partition]) -> Generator[Any, None, None]:
        """As `mlejax.data.streams.Engine.map`."""
        task = self.ray.put(packed(work))
        of_partition, of_block = self.ray.remote(run), self.ray.remote(run_on_block)
        found = [
            of_block.remote(task, p.name, p.reference) if isinstance(p, Block) else of_partition.remote(task, p)
            for p in partitions
        ]
        try:
            for reference in found:
                yield unpacked(self.ray.get(reference))
        finally:
            for reference in found:
                self.ray.cancel(reference)


def run_on_block(task: bytes, name: str, table: Any) -> bytes:
    """The work on a block of a Dataset."""
    return run(task, Batch(name, table))


@dataclass(frozen=True)
class Block:
    """A block of a Ray Dataset in Ray's store.

    Attributes:
        name: for messages.
        reference: of Ray.
    """

    name: str
    reference: Any

    def read(self, columns: Any = None) -> Any:
        """The block, here."""
        import ray

        return ray.get(self.reference)


class RayData:
    """A Ray Dataset as a source; its blocks are kept in Ray's store, in Arrow.

    Args:
        dataset: of Ray.
    """

    def __init__(self, dataset: Any) -> None:
        self.blocks = [Block(f"block {i}", r) for i, r in enumerate(dataset.materialize().to_arrow_refs())]

    def peek(self) -> Any:
        """The first block that has rows."""
        tables = (block.read() for block in self.blocks)
        return next((table for table in tables if table.num_rows), self.blocks[0].read())

    def partitions(self) -> list[Block]:
        """In order."""
        return self.blocks
