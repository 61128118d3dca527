"""Results as other packages expect them: statsmodels' and maketables' names, and a model of marginaleffects."""

from mlejax.results.adapters.other_names import OtherNames, Prediction

__all__ = ["OtherNames", "Prediction"]
