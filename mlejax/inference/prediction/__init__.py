"""Predictions, marginal effects and random effects for the rows of data, with delta-method standard errors."""

from mlejax.inference.prediction.latents import (
    ClassValues,
    LatentValues,
    LevelValues,
    class_values,
    latent_values,
    level_values,
)
from mlejax.inference.prediction.margins import Elasticity, Margins, margins
from mlejax.inference.prediction.predict import predict, predict_function, predict_parameter
from mlejax.inference.prediction.row_functions import function_of, in_parts
from mlejax.inference.prediction.row_tables import rows_of
from mlejax.inference.prediction.spreads import random_effects, with_covariance

__all__ = [
    "ClassValues",
    "Elasticity",
    "LatentValues",
    "LevelValues",
    "Margins",
    "class_values",
    "function_of",
    "in_parts",
    "latent_values",
    "level_values",
    "margins",
    "predict",
    "predict_function",
    "predict_parameter",
    "random_effects",
    "rows_of",
    "with_covariance",
]
