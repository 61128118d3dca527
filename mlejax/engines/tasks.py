"""Tasks that engines run on workers: the function is pickled once for each pass over the data, and the results are pickled.

Functions of modules that workers may not have are pickled by value.  A worker recognises a model that it already has by the
digest of its pickle (:mod:`mlejax.portable`), so that it compiles once for a model and not in each pass.  An error is returned
and raised by the caller, with the name of the partition in which it happened.
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
class EnginePartition:
    """A partition that an engine computes, or has in its memory, and that a task reads through the engine's reference.

    Attributes:
        name: name of the partition, for messages.
        handle: the engine's reference to the partition.
        fetch: function from the handle to the data, on the caller's side.
    """

    name: str
    handle: Any = field(repr=False)
    fetch: Callable[[Any], Any] = field(repr=False)

    def read(self, columns: Sequence[str] | None = None) -> Data:
        """Return the data of the partition in the caller's process, with all columns."""
        return self.fetch(self.handle)


def packed(work: Callable[[Partition], Any]) -> bytes:
    """Return a function of one partition as cloudpickle bytes; functions of modules that workers may not have are in them."""
    import cloudpickle

    with travelling():
        return bytes(cloudpickle.dumps(work))


def run(work: bytes, partition: Partition) -> bytes:
    """Run a pickled function on a partition, in a worker; return the pickled pair (None, result), or (error, None) if the
    function raised an error, with a note that names the partition; an error that cannot be pickled is returned as a
    RuntimeError.
    """
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
    """Run a pickled function on a table that the engine has brought to the worker, as a partition with this name; return what
    `run` does.
    """
    return run(work, StreamBatch(name, table))


def unpacked(found: bytes) -> Any:
    """Return the result in the bytes that `run` returned; raise the error if they have one."""
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
    """Submit a task for each partition and yield their results in the order of the partitions.

    An error of a task is raised; then, and if the generator is closed early, the tasks without a result are cancelled.

    Args:
        partitions: the partitions; batches of a reader are in memory from the submission of their task.
        submit: function that submits a task on a partition and returns the task.
        result: function that waits for a task and returns the bytes that `run` returned.
        cancel: function that cancels a list of tasks.
        ahead: most tasks that are submitted before their results are needed.
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
