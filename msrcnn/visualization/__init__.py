"""Plots, pictures and the report of an evaluation."""

from .detections import draw_detections
from .images import read_rgb
from .plots import draw_figures
from .prediction_grid import draw_prediction_grid, prediction_grid
from .report import write_report

__all__ = [
    "draw_detections",
    "draw_figures",
    "draw_prediction_grid",
    "prediction_grid",
    "read_rgb",
    "write_report",
]
