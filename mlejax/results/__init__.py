"""The frozen result of a fit: estimates, inference, tables, files."""

from mlejax.results.result import Results
from mlejax.results.saved import SavedModel, compare, load

__all__ = ["Results", "SavedModel", "compare", "load"]
