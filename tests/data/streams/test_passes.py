"""A pass that is given up is over at once."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlejax.data import DataError
from mlejax.data.read import ingest
from mlejax.data.streams import Seen, StreamBatch, Threads
from mlejax.data.streams.passes import Streamed
from tests.data.streams.samples import frame, write


class Six:
    """A source of six batches."""

    def partitions(self) -> Iterator[StreamBatch]:
        return (StreamBatch(f"batch {i}", i) for i in range(6))


def test_a_pass_that_is_given_up_leaves_no_work_behind() -> None:
    """Were its end left to the garbage collector, that could come in a thread of the pass, which then waited for itself."""
    streamed = Streamed(Six(), None, 6, 6, 6.0, Threads(2))  # type: ignore[arg-type]
    streamed.seen = [Seen(1, np.zeros(1), np.zeros(1), np.zeros((1, 2)))] * 6
    running: list[int] = []
    begun, refused = threading.Event(), threading.Event()

    def work(partition: Any, first: bool) -> tuple[None, None]:
        if partition.table > 0:
            running.append(1)
            begun.set()
            refused.wait(0.2)
            running.pop()
        else:
            begun.wait(10.0)
        return None, None

    with pytest.raises(DataError, match="batch 0 with 1 rows in the first, now 0") as refusal:
        streamed.pass_over(work)
    assert refusal.value.__traceback__ is not None  # still held, with the frames in it
    assert begun.is_set()
    assert not running
    refused.set()


def test_a_partition_is_freed_when_it_is_done(tmp_path: Path) -> None:
    """No cycle holds its table until the garbage collector comes: memory would hold many partitions."""
    (group,) = write(tmp_path, [frame().iloc[:1000]]).partitions()
    gc.collect()
    gc.disable()
    try:
        table = group.read(["x0", "x1", "y"])
        alive = weakref.ref(table)
        read = ingest(table)
        assert len(read.contents("x0").rows[0].raw) == 1000
        del table, read
        assert alive() is None
    finally:
        gc.enable()
