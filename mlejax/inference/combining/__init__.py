"""Several fits as one inference: multiple imputation, two-step estimation."""

from mlejax.inference.combining.pooling import Pooled, pooled
from mlejax.inference.combining.two_step import TwoStep, two_step

__all__ = ["Pooled", "TwoStep", "pooled", "two_step"]
