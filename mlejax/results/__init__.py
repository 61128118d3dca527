"""The frozen results of fits of one or many data sets: estimates, inference, tables, files."""

from mlejax.results.batch_results import BatchResults
from mlejax.results.results import Results
from mlejax.results.saved import SavedModel, compare, load
from mlejax.results.several import pool, stack
from mlejax.results.streamed_groups import FitGroups, fit_streamed_groups

__all__ = [
    "BatchResults",
    "FitGroups",
    "Results",
    "SavedModel",
    "compare",
    "fit_streamed_groups",
    "load",
    "pool",
    "stack",
]
