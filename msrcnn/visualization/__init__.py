"""Plots, pictures and the report of an evaluation."""

from .plots import draw_figures
from .prediction_grid import draw_prediction_grid, prediction_grid
from .report import write_report

__all__ = ["draw_figures", "draw_prediction_grid", "prediction_grid", "write_report"]
