"""What an evaluation says, in a sentence or two: no more than is known."""

from ..evaluation import Evaluation
from .text import number, signed


def headline(evaluation: Evaluation) -> str:
    """Whether ranking by mask score gains, by how much, and what there is to gain."""
    summary = evaluation.summary
    if summary["bbox"]["AP"] is None:
        return "The dataset has no instance to find: AP is not defined."
    if not len(evaluation.detections):
        return "Nothing was detected."
    if summary["segm_box_score"] is None:
        return f"Box AP is {number(summary['bbox']['AP'])}. There are no masks to compare."
    before = summary["segm_box_score"]["AP"]
    perfect = summary["segm_oracle"]["AP"] - before
    gain, interval = summary["delta"]["AP"], summary["delta"]["ci95"]
    if gain is None:
        return (
            f"Mask AP is {number(before)}. The model predicts no MaskIoU: its masks are ranked by "
            f"box score alone. A perfect score, the true MaskIoU, would gain "
            f"{number(perfect)} points."
        )
    change = f"Ranking masks by mask score instead of box score changes mask AP by {signed(gain)}"
    bounds = "" if interval is None else " to ".join(signed(bound) for bound in interval)
    if interval is None:
        sentence = f"{change} points; how much of that is chance was not estimated."
    elif interval[0] <= 0 <= interval[1]:
        sentence = (
            f"{change} points (95% interval {bounds}): on this dataset not distinguishable from "
            "no gain."
        )
    else:
        verb = "gains" if gain > 0 else "loses"
        sentence = (
            f"Ranking masks by mask score {verb} {number(abs(gain))} points of mask AP over "
            f"ranking by box score (95% interval {bounds})."
        )
    return f"{sentence} A perfect score, the true MaskIoU, would gain {number(perfect)}."
