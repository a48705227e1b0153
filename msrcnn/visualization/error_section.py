"""The section of the HTML report on types of errors (TIDE)."""

from __future__ import annotations

from ..evaluation import Evaluation
from ..evaluation.error_types import ERRORS, IOU_THRESHOLD, MIN_OVERLAP
from .html import Content, element, row, table
from .plot_style import LABELS
from .text import number

MEANINGS = {
    "Cls": "wrong class",
    "Loc": "poor overlap",
    "Both": "wrong class and poor overlap",
    "Dupe": "duplicate",
    "Bkg": "on background",
    "Miss": "missed instance",
    "FP": "all false positives",
    "FN": "all missed instances",
}
NOTE = (
    f"AP50 that would be gained if an error of one type did not occur, in percentage points, and "
    f"the number of such errors, after TIDE (Bolya et al., ECCV 2020). Poor overlap: the IoU with "
    f"an instance of the class is at least {MIN_OVERLAP} but below {IOU_THRESHOLD}. Duplicate: "
    f"the instance has a detection with a higher score. On background: no IoU of {MIN_OVERLAP} "
    "with any instance. Missed instance: no detection, not even one with another error, is on it. "
    "Gains do not add up, since one detection can hide another. Detections of any score are "
    "counted; those with low scores cost little AP."
)


def error_section(evaluation: Evaluation) -> list[Content]:
    """Builds the section with the AP that each type of error costs.

    Args:
        evaluation: the evaluation. Without instances or detections, the section is empty.
    """
    tide = evaluation.summary["tide"]
    has_ap = evaluation.summary["bbox"]["AP"] is not None
    if not has_ap or not len(evaluation.detections):
        return []
    names = [LABELS[ranking] for ranking in tide]
    rows = []
    for error, meaning in MEANINGS.items():
        gains = [number(found["delta_ap"][error]) for found in tide.values()]
        counts = [f"{found['counts'][error]:,}" for found in tide.values() if error in ERRORS]
        rows.append(row(meaning, *gains, *(counts or [""] * len(tide))))
    header = ["", *(f"gain, {name}" for name in names), *(f"errors, {name}" for name in names)]
    return [
        element("h2", "Types of errors"),
        element("p", NOTE, class_="note"),
        table(header, rows, "AP50 that each type of error costs", class_="wrap"),
    ]
