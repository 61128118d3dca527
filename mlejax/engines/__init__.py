"""Engines that run the passes over partitions elsewhere: Dask, Ray and Spark, none of which is imported unless it is handed in.

An engine gets stateless tasks, which it may retry: the model as it was pickled, a partition's description, and back come sums.
There are no collectives between workers.
"""

from __future__ import annotations

import types
from typing import Any

from jax.sharding import Mesh

from mlejax.data import DataTypeError
from mlejax.data.errors import type_name
from mlejax.data.streams import Engine
from mlejax.engines.on_processes import OwnRows, Processes
from mlejax.execution.devices import of_many_processes
from mlejax.shapes import Data

__all__ = ["engine_of", "source_of"]


def engine_of(on: Any) -> Engine | None:
    """The engine for ``on=``: a ``distributed.Client``, the initialised module ``ray``, a ``SparkSession``, devices of several
    processes; None for devices of this one.

    Raises:
        DataTypeError: something else, or a module of Ray that was not initialised.
    """
    library = type(on).__module__.partition(".")[0]
    if isinstance(on, types.ModuleType) and on.__name__ == "ray":
        from mlejax.engines.on_ray import Ray

        return Ray(on)
    if library == "distributed":
        from mlejax.engines.on_dask import Dask

        return Dask(on)
    if library == "pyspark":
        from mlejax.engines.on_spark import Spark

        return Spark(on)
    if _devices(on):
        return Processes() if of_many_processes(on) else None
    raise DataTypeError(
        f"on= expected a list of JAX devices, a Mesh, a distributed.Client, the module ray, or a SparkSession, got a "
        f"{type_name(on)}"
    )


def source_of(data: Data, on: Any, groups: bool = False) -> Any:
    """Tables that belong to an engine as sources of partitions; other data as they are.

    Args:
        data: the user's.
        on: of the engine, or None.
        groups: they are fitted by group, which Spark's rows can be too.

    Raises:
        DataTypeError: a table of Spark that is not fitted by group, or one without its engine.
    """
    library = type(data).__module__.partition(".")[0]
    if library in ("dask", "dask_expr") and hasattr(data, "to_delayed"):
        from mlejax.engines.on_dask import DaskFrame

        if type(on).__module__.partition(".")[0] != "distributed":
            raise DataTypeError("a Dask DataFrame is fitted where it lies: give on=client, a distributed.Client")
        return DaskFrame(data)
    if library == "ray" and hasattr(data, "materialize"):
        from mlejax.engines.on_ray import RayData

        return RayData(data)
    if library == "pyspark" and groups:
        from mlejax.engines.on_spark import SparkFrame

        if type(on).__module__.partition(".")[0] != "pyspark":
            raise DataTypeError("a Spark DataFrame is fitted where it lies: give on=spark, its SparkSession")
        return SparkFrame(data)
    if library == "pyspark":
        raise DataTypeError(
            "a Spark DataFrame is fitted from files, which every worker reads: df.write.parquet(path), then "
            "fit(mle.Parquet(path), on=spark)"
        )
    return OwnRows(data) if _devices(on) and of_many_processes(on) else data


def _devices(on: Any) -> bool:
    if isinstance(on, (list, tuple)):
        return bool(on) and all(map(_devices, on))
    return isinstance(on, Mesh) or (hasattr(on, "platform") and hasattr(on, "id"))
