"""Work that travels: pickled once a pass, and what comes back.

Functions of modules that workers may not have travel by value.  A worker that gets the same model again recognises it by the
digest of its pickle (:mod:`mlejax.portable`), so that it compiles once for a model and not once a pass.  An error comes back
as it was, with the partition that it happened in.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlejax.data.streams import Partition, StreamBatch
from mlejax.execution import float64
from mlejax.portable import travelling
from mlejax.shapes import Data


@dataclass(frozen=True)
class Held:
    """A partition that an engine holds, or computes where the work is done.

    Attributes:
        name: for messages.
        handle: the engine's own.
        fetch: brings it here.
    """

    name: str
    handle: Any = field(repr=False)
    fetch: Callable[[Any], Any] = field(repr=False)

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """The partition, here."""
        return self.fetch(self.handle)


def packed(work: Callable[[Partition], Any]) -> bytes:
    """The work on any partition as bytes."""
    import cloudpickle

    with travelling():
        return bytes(cloudpickle.dumps(work))


def run(work: bytes, partition: Partition) -> bytes:
    """What the work makes of a partition, or the error that it met; on a worker."""
    import cloudpickle

    try:
        with float64():
            return bytes(cloudpickle.dumps((None, pickle.loads(work)(partition))))
    except Exception as error:
        error.add_note(f"This happened on a worker, in {partition.name}.")
        try:
            return bytes(cloudpickle.dumps((error, None)))
        except Exception:
            return bytes(
                cloudpickle.dumps((RuntimeError(f"{type(error).__name__}: {error} (in {partition.name})"), None))
            )


def run_on_table(work: bytes, name: str, table: Data) -> bytes:
    """As `run`, of a partition that the engine has brought to the worker."""
    return run(work, StreamBatch(name, table))


def unpacked(found: bytes) -> Any:
    """The result, on the side that asked; an error is raised."""
    error, value = pickle.loads(found)
    if error is not None:
        raise error
    return value


def in_order(
    partitions: Iterable[Partition],
    submit: Callable[[Any], Any],
    result: Callable[[Any], bytes],
    cancel: Callable[[list[Any]], Any],
    ahead: int,
) -> Generator[Any, None, None]:
    """The results of tasks in the order of the partitions.

    Args:
        partitions: of which ``ahead`` are submitted before their results are needed: a reader's batches are in memory from
            then on.
        submit, result, cancel: a task on a partition, its bytes, and how tasks are cancelled whose results are no longer wanted.
        ahead: number of tasks.
    """
    waiting: deque[Any] = deque()
    try:
        for partition in partitions:
            waiting.append(submit(partition))
            if len(waiting) > ahead:
                yield unpacked(result(waiting.popleft()))
        while waiting:
            yield unpacked(result(waiting.popleft()))
    finally:
        if waiting:
            cancel(list(waiting))
