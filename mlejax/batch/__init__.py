"""Fits of many data sets at once: reading, searching, a verdict for each; and refits of one data set under many weights."""

from mlejax.batch.fitting import fit_many, single, statement, warn_of_failures
from mlejax.batch.judging import Batch
from mlejax.batch.reading import grouped, stacked
from mlejax.batch.refits import Refits, one_step, one_step_of, refit, refit_data, row_derivatives
from mlejax.batch.sets import DataSets
from mlejax.execution.chunking import Budget, budget

__all__ = [
    "Batch",
    "Budget",
    "DataSets",
    "Refits",
    "budget",
    "fit_many",
    "grouped",
    "one_step",
    "one_step_of",
    "refit",
    "refit_data",
    "row_derivatives",
    "single",
    "stacked",
    "statement",
    "warn_of_failures",
]
