"""Predictions on images, from Python."""

from .image_prediction import Prediction
from .predictor import Predictor

__all__ = ["Prediction", "Predictor"]
