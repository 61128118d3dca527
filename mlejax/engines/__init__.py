"""Engines that evaluate the partitions of a data set on a cluster: Dask, Ray, Spark (imported only if the user passes one).

An engine runs stateless tasks, which it may retry: each gets the pickled model and the description of one partition, and
returns sums over the partition's rows.  Workers do not communicate with each other.
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
    """Return the engine for the argument ``on=``; None for devices of this process.

    Args:
        on: a ``distributed.Client``, the initialised module ``ray``, a ``SparkSession``, a JAX device, a list of devices, or a
            Mesh; devices of several processes (``jax.distributed``) give the engine `Processes`.

    Raises:
        DataTypeError: ``on`` is something else, or ``ray.init()`` was not called.
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
    came = "a list that is empty or has something else in it" if isinstance(on, (list, tuple)) else f"a {type_name(on)}"
    raise DataTypeError(
        f"on= expected a list of JAX devices, a Mesh, a distributed.Client, the module ray, or a SparkSession, got {came}"
    )


def source_of(data: Data, on: Any, groups: bool = False) -> Any:
    """Return a table of Dask, Ray or Spark as a source of partitions, and any data as `OwnRows` if ``on`` has devices of several
    processes; other data unchanged.

    Args:
        data: the user's data.
        on: the user's argument ``on=``: client, module, session or devices; or None.
        groups: True if the data are fitted by group, the only fit of a Spark DataFrame.

    Raises:
        DataTypeError: a Spark DataFrame that is not fitted by group, or a Dask or Spark DataFrame without its client or session
            in ``on=``.
    """
    library = type(data).__module__.partition(".")[0]
    if library in ("dask", "dask_expr") and hasattr(data, "to_delayed"):
        from mlejax.engines.on_dask import DaskFrame

        if type(on).__module__.partition(".")[0] != "distributed":
            raise DataTypeError("a Dask DataFrame is fitted on its cluster: give on=client, a distributed.Client")
        return DaskFrame(data)
    if library == "ray" and hasattr(data, "materialize"):
        from mlejax.engines.on_ray import RayData

        return RayData(data)
    if library == "pyspark" and groups:
        from mlejax.engines.on_spark import SparkFrame

        if type(on).__module__.partition(".")[0] != "pyspark":
            raise DataTypeError("a Spark DataFrame is fitted on its cluster: give on=df.sparkSession, its SparkSession")
        return SparkFrame(data)
    if library == "pyspark":
        raise DataTypeError(
            "fit does not take a Spark DataFrame, but files that every worker can read: write it by df.write.parquet(path), "
            "then fit(mle.Parquet(path), on=spark)"
        )
    return OwnRows(data) if _devices(on) and of_many_processes(on) else data


def _devices(on: Any) -> bool:
    """True if ``on`` is a Mesh, a JAX device, or a list or tuple of these that is not empty."""
    if isinstance(on, (list, tuple)):
        return bool(on) and all(map(_devices, on))
    return isinstance(on, Mesh) or (hasattr(on, "platform") and hasattr(on, "id"))
