"""Pictures of results."""

from .prediction_grid import draw_prediction_grid

__all__ = ["draw_prediction_grid"]
