"""Mask scores for a trained detector: samples from one pass, and a MaskIoU head fitted to them."""

from .fit_scores import FIT_DEFAULTS, fit_scores

__all__ = ["FIT_DEFAULTS", "fit_scores"]
