"""Plots, images with detections, and the HTML report of an evaluation."""

from .draw_detections import draw_detections
from .html_report import write_report
from .images import read_rgb
from .plots import draw_figures
from .prediction_grid import prediction_grid

__all__ = [
    "draw_detections",
    "draw_figures",
    "prediction_grid",
    "read_rgb",
    "write_report",
]
