"""Work that travels: pickled once a pass, and what comes back.

Functions of modules that workers may not have travel by value.  A worker that gets the same model again recognises it by the
digest of its pickle (:mod:`mlejax.portable`), so that it compiles once for a model and not once a pass.  An error comes back
as it was, with the partition that it happened in.
"""

from __future__ import annotations

import pickle
from typing import Any

from mlejax.data.streams import Partition
from mlejax.execution import float64
from mlejax.portable import travelling


def packed(work: Any) -> bytes:
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


def unpacked(found: bytes) -> Any:
    """The result, on the side that asked; an error is raised."""
    error, value = pickle.loads(found)
    if error is not None:
        raise error
    return value
