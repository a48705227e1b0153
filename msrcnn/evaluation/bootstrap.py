"""Bootstrap over images: confidence intervals of AP and of differences in AP."""

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .coco_metrics import HotcocoEngine
from .detections import Detections

SEED = 0


def gain_interval(before: hotcoco.COCOeval, after: hotcoco.COCOeval, samples: int) -> list[float]:
    """Returns the 95% confidence interval of the AP that ``after`` gains over ``before``.

    Each sample draws as many images as the dataset has, with replacement, and computes AP of both
    on the same images. Pairing removes the variance due to easy and hard images.

    Args:
        before, after: results on the same dataset, matched with its instances by
            :meth:`~.coco_metrics.HotcocoEngine.match`. Area ranges are not needed; leaving them
            out saves time.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percentage points.
    """
    comparison = hotcoco.compare(before, after, n_bootstrap=samples, seed=SEED, confidence=0.95)
    interval = comparison["ci"]["AP"]
    return [interval["lower"] * 100, interval["upper"] * 100]


def ap_interval(
    ground_truth: COCO,
    detections: Detections,
    iou_type: str,
    scores: np.ndarray,
    *,
    max_dets: int,
    samples: int,
) -> list[float]:
    """Returns the 95% confidence interval of an AP.

    Args:
        ground_truth: the dataset, with annotations.
        detections, iou_type, scores, max_dets: see :meth:`~.coco_metrics.Engine.average_precision`.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percent.
    """
    engine = HotcocoEngine(ground_truth)
    rows = np.zeros(0, dtype=np.int64)
    nothing = detections.take(rows, detections.images)  # its AP is 0, so that the gain is the AP
    before = engine.match(nothing, iou_type, scores[rows], max_dets, all_areas=False)
    after = engine.match(detections, iou_type, scores, max_dets, all_areas=False)
    return gain_interval(before, after, samples)
