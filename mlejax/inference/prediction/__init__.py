"""Predictions for the rows of data, with delta-method errors."""

from mlejax.inference.prediction.latents import LatentValues, latent_values
from mlejax.inference.prediction.margins import Elasticity, Margins, margins
from mlejax.inference.prediction.predict import predict, predict_function, predict_parameter

__all__ = [
    "Elasticity",
    "LatentValues",
    "Margins",
    "latent_values",
    "margins",
    "predict",
    "predict_function",
    "predict_parameter",
]
