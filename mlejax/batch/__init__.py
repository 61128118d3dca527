"""Many data sets over the one recipe: two readers, one engine, a verdict for each."""

from mlejax.batch.engine import Limits, limits
from mlejax.batch.fitting import Batch, ended_of, fit_many, single, warn_of_failures
from mlejax.batch.reading import DataSets, grouped, stacked

__all__ = [
    "Batch",
    "DataSets",
    "Limits",
    "ended_of",
    "fit_many",
    "grouped",
    "limits",
    "single",
    "stacked",
    "warn_of_failures",
]
