"""Which kinds of errors cost AP: TIDE (Bolya et al., ECCV 2020)."""

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .coco_metrics import detection_limit
from .detections import Detections
from .ground_truth import is_federated
from .image_parts import image_parts

IOU_THRESHOLD = 0.5  # of a right detection
MIN_OVERLAP = 0.1  # below it, a detection is on background
# TIDE's names of the errors of a detection or an instance, and of two that it counts together.
ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FP", "FN")


def error_types(
    ground_truth: COCO, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
) -> dict:
    """Computes how much AP50 would rise without each type of error.

    All images are in memory together: what an error costs depends on the detections of all.

    Args:
        ground_truth: the dataset, with annotations.
        detections, iou_type, scores, max_dets: see
            :meth:`~.coco_metrics.Engine.average_precision`.

    Returns:
        A dict with

        * ``AP50`` in percent;
        * ``delta_ap``: for each of ``ERRORS`` and ``SPECIAL``, the gain in AP50, in percentage
          points, if these errors were corrected;
        * ``counts``: the number of each of ``ERRORS``.
    """
    limit = detection_limit(max_dets, detections)
    results = []
    for part in image_parts(ground_truth, detections, iou_type, scores, limit):
        results += part.results
    dataset = hotcoco.COCO(ground_truth.dataset)
    evaluation = hotcoco.COCOeval(
        dataset, dataset.load_res(results), iou_type, lvis_style=is_federated(ground_truth)
    )
    evaluation.params.max_dets = [limit]
    evaluation.params.iou_thrs = [IOU_THRESHOLD]
    evaluation.params.area_rng = evaluation.params.area_rng[:1]  # without those of object sizes
    evaluation.params.area_rng_lbl = evaluation.params.area_rng_lbl[:1]
    evaluation.evaluate()
    found = evaluation.tide_errors(pos_thr=IOU_THRESHOLD, bg_thr=MIN_OVERLAP)
    return {
        "AP50": 100 * found["ap_base"],
        "delta_ap": {name: 100 * found["delta_ap"][name] for name in (*ERRORS, *SPECIAL)},
        "counts": {name: found["counts"][name] for name in ERRORS},
    }
