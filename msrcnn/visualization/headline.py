"""A summary of an evaluation in one or two sentences."""

from ..evaluation import Evaluation, too_few_images
from .text import number, signed


def headline(evaluation: Evaluation) -> str:
    """Summarizes the AP that the mask score gains, and the upper bound of the gain.

    A gain or loss is stated as such only if its 95% confidence interval excludes 0.
    """
    summary = evaluation.summary
    if summary["bbox"]["AP"] is None:
        return "The dataset has no instances, so AP is not defined."
    if not len(evaluation.detections):
        return "There are no detections."
    if summary["segm_box_score"] is None:
        return f"Box AP is {number(summary['bbox']['AP'])}. Masks are not evaluated."
    before = summary["segm_box_score"]["AP"]
    # A head that was trained for false positives also puts them last.
    trained_for = (summary["maskiou"] or {}).get("false_positives")
    bound = "segm_oracle" if trained_for == "zero" else "segm_oracle_matched"
    perfect = summary[bound]["AP"] - before
    gain, interval = summary["delta"]["AP"], summary["delta"]["ci95"]
    if gain is None:
        return (
            f"Mask AP is {number(before)}. The model predicts no MaskIoU, so its masks are ranked "
            f"by box score only. A perfect prediction of MaskIoU would gain {number(perfect)} "
            "points."
        )
    change = f"Ranking masks by mask score instead of box score changes mask AP by {signed(gain)}"
    bounds = "" if interval is None else " to ".join(signed(bound) for bound in interval)
    if interval is None:
        reason = too_few_images(summary["images"]) or "its confidence interval was not computed"
        sentence = f"{change} points; {reason}."
    elif interval[0] <= 0 <= interval[1]:
        sentence = (
            f"{change} points (95% interval {bounds}). On this dataset, the difference is not "
            "statistically significant."
        )
    else:
        verb = "gains" if gain > 0 else "loses"
        sentence = (
            f"Ranking masks by mask score {verb} {number(abs(gain))} points of mask AP over "
            f"ranking by box score (95% interval {bounds})."
        )
    return f"{sentence} A perfect prediction of MaskIoU would gain {number(perfect)} points."
