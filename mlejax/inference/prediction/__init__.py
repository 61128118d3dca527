"""Predictions for the rows of data, with delta-method errors."""

from mlejax.inference.prediction.predict import predict, predict_function, predict_parameter

__all__ = ["predict", "predict_function", "predict_parameter"]
