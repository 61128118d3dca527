"""Many data sets over the one recipe: two readers, one engine, a verdict for each."""

from mlejax.batch.cutting import Limits, limits
from mlejax.batch.fitting import Batch, fit_many, single, statement, warn_of_failures
from mlejax.batch.reading import grouped, stacked
from mlejax.batch.refits import Refits, one_step, refit, refit_data, row_derivatives
from mlejax.batch.sets import DataSets

__all__ = [
    "Batch",
    "DataSets",
    "Limits",
    "Refits",
    "fit_many",
    "grouped",
    "limits",
    "one_step",
    "refit",
    "refit_data",
    "row_derivatives",
    "single",
    "stacked",
    "statement",
    "warn_of_failures",
]
