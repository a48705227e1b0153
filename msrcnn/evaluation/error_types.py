"""Which kinds of errors cost AP: TIDE (Bolya et al., ECCV 2020)."""

from typing import Any

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .coco_metrics import detection_limit, evaluation_of_every_size
from .detections import Detections, present
from .ground_truth import is_federated, of_images

IOU_THRESHOLD = 0.5  # of a correct detection
MIN_OVERLAP = 0.1  # below it, a detection is on background
# TIDE's names of the errors of a detection or an instance, and of two that it counts together.
ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FP", "FN")
MAX_IMAGES = 5000  # those of COCO's validation set
SEED = 0


def error_types(
    ground_truth: COCO, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
) -> dict:
    """Computes how much AP50 would rise without each type of error.

    What an error costs depends on the detections of all images, which are therefore in memory
    together. If there are more than ``MAX_IMAGES`` images, that many are drawn with a fixed seed.

    Args:
        ground_truth: the dataset, with annotations.
        detections, iou_type, scores, max_dets: see
            :meth:`~.coco_metrics.Engine.average_precision`.

    Returns:
        A dict with

        * ``images``: the number of images;
        * ``AP50`` in percent;
        * ``delta_ap``: for each of ``ERRORS`` and ``SPECIAL``, the gain in AP50, in percentage
          points, if these errors were corrected;
        * ``counts``: the number of each of ``ERRORS``.
    """
    limit = detection_limit(max_dets, detections)
    images = _images(ground_truth)
    rows = np.flatnonzero(np.isin(detections.image_id, images))
    dataset = hotcoco.COCO(of_images(ground_truth, set(images)))
    results = _load(dataset, detections.take(rows, None), iou_type, scores[rows])
    federated = is_federated(ground_truth)
    if federated:  # LVIS's limit is for all categories of an image
        results = results.cap_detections_per_image(limit)
    evaluation = evaluation_of_every_size(dataset, results, iou_type, limit, federated=federated)
    evaluation.params.iou_thrs = [IOU_THRESHOLD]
    evaluation.evaluate()
    found = evaluation.tide_errors(pos_thr=IOU_THRESHOLD, bg_thr=MIN_OVERLAP)
    return {
        "images": len(images),
        "AP50": 100 * found["ap_base"],
        "delta_ap": {name: 100 * found["delta_ap"][name] for name in (*ERRORS, *SPECIAL)},
        "counts": {name: found["counts"][name] for name in ERRORS},
    }


def _images(ground_truth: COCO) -> list[int]:
    ids = sorted(ground_truth.imgs)
    order = np.random.default_rng(SEED).permutation(len(ids))[:MAX_IMAGES]
    return sorted(ids[position] for position in order)


def _load(
    dataset: hotcoco.COCO, detections: Detections, iou_type: str, scores: np.ndarray
) -> hotcoco.COCO:
    """Passes detections to hotcoco as columns, which need less memory than records."""
    columns = np.empty((len(detections), 7))
    columns[:, 0], columns[:, 1:5] = detections.image_id, detections.bbox
    columns[:, 5], columns[:, 6] = scores, detections.category_id
    if iou_type == "bbox":
        return dataset.load_res(columns)
    masks: list[Any] = present(detections.segmentation)[:]
    return dataset.load_res(columns, segmentation=masks)
