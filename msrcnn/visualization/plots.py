"""The figures of an evaluation."""

from __future__ import annotations

from matplotlib.figure import Figure

from ..evaluation import Evaluation
from ..evaluation.agreement import compared_scores
from .ap_plots import draw_ap_over_iou, draw_gain_over_iou, draw_precision_recall
from .score_plots import draw_calibration, draw_true_maskiou, draw_true_maskiou_by_size


def draw_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draws all figures that apply, by name.

    Without masks, only AP of boxes and their precision over recall are drawn. Without detections
    or instances there are no figures.

    Args:
        evaluation: the evaluation.
    """
    figures = {}
    has_instances = any(value is not None for value in evaluation.precision["bbox"].by_iou)
    if has_instances and len(evaluation.detections):
        figures["ap_over_iou"] = draw_ap_over_iou(evaluation.precision)
        if "segm_box_score" in evaluation.precision:
            figures["gain_over_iou"] = draw_gain_over_iou(evaluation.precision)
        figures["precision_recall"] = draw_precision_recall(evaluation.summary)
    if compared_scores(evaluation.summary):
        figures["true_maskiou"] = draw_true_maskiou(evaluation)
        figures["true_maskiou_by_size"] = draw_true_maskiou_by_size(evaluation)
        figures["calibration"] = draw_calibration(evaluation.summary)
    return figures
