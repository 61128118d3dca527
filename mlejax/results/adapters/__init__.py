"""Adapters of results to other packages: the attribute names of statsmodels and maketables, and a model for
marginaleffects.
"""

from mlejax.results.adapters.other_names import OtherNames, Prediction

__all__ = ["OtherNames", "Prediction"]
