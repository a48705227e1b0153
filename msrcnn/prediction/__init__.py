"""Predictions on images, from Python."""

from .prediction import Prediction
from .predictor import Predictor

__all__ = ["Prediction", "Predictor"]
