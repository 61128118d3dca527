"""The frozen results of fits, of one data set or many: estimates, inference, tables, files."""

from mlejax.results.batch_results import BatchResults
from mlejax.results.results import Results
from mlejax.results.saved import SavedModel, compare, load
from mlejax.results.several import pool, stack

__all__ = ["BatchResults", "Results", "SavedModel", "compare", "load", "pool", "stack"]
