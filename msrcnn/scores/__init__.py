"""Mask scores for a trained detector: samples from one pass, and a MaskIoU head fitted to them."""

from .fit_scores import FIT_DEFAULTS, ScoreFit, fit_scores
from .train_and_fit import train_and_fit

__all__ = ["FIT_DEFAULTS", "ScoreFit", "fit_scores", "train_and_fit"]
