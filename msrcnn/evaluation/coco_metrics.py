"""COCO average precision by the reference implementation."""

import contextlib
import copy
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def coco_metrics(
    ground_truth: COCO, results: list[dict], iou_type: str, max_dets: int = 100
) -> dict[str, float | None]:
    """Average precision in percent.

    Args:
        ground_truth: the dataset.
        results: COCO results, none perhaps.
        iou_type: ``"bbox"`` or ``"segm"``.
        max_dets: detections of an image that count, the best by score; COCO's own is 100, a
            negative number is all.

    Returns:
        A value for each of ``METRICS``; ``None`` where the dataset has no instance to find.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # the reference prints as it goes
        if max_dets < 0:  # Detectron2's way to say all
            max_dets = max(len(results), 1)
        if results:
            detections = ground_truth.loadRes(copy.deepcopy(results))  # it adds fields
        else:
            detections = COCO()  # loadRes takes no empty list
            detections.dataset = {**ground_truth.dataset, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(ground_truth, detections, iou_type)
        evaluation.params.maxDets = [1, 10, max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    return {name: _average(evaluation, name) for name in METRICS}


def _average(evaluation: COCOeval, name: str) -> float | None:
    """Mean precision over what a metric counts, as ``COCOeval.summarize`` takes it.

    ``summarize`` itself looks up AP at 100 detections whatever the limit is.
    """
    # precision: IoU thresholds x recall thresholds x categories x areas x detection limits
    precision = evaluation.eval["precision"][..., -1]
    area = {"APs": "small", "APm": "medium", "APl": "large"}.get(name, "all")
    precision = precision[..., evaluation.params.areaRngLbl.index(area)]
    if name in ("AP50", "AP75"):
        precision = precision[evaluation.params.iouThrs == float(name[2:]) / 100]
    precision = precision[precision > -1]
    return float(precision.mean()) * 100 if precision.size else None
