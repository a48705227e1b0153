"""Synthetic detections that several tests evaluate."""

import numpy as np
import pycocotools.mask as mask_util

from msrcnn.evaluation import Detections


def noisy_detections(ground_truth, seed=0, scores=True) -> Detections:
    """Detects each instance up to twice, with random scores and a shifted mask and box.

    Args:
        ground_truth: the dataset.
        seed: of the random numbers.
        scores: whether to add predicted MaskIoU, mask score and mask confidence.
    """
    rng = np.random.default_rng(seed)
    rows, boxes, masks = [], [], []
    for annotation in ground_truth.dataset["annotations"]:
        for _ in range(rng.choice([0, 1, 1, 2])):
            mask = ground_truth.annToMask(annotation)
            shift = rng.integers(-4, 5, size=2)
            rle = mask_util.encode(np.asfortranarray(np.roll(mask, shift, axis=(0, 1))))
            rows.append((annotation["image_id"], annotation["category_id"]))
            boxes.append(mask_util.toBbox(rle))
            masks.append(rle)
    rows = np.array(rows)
    order = np.argsort(rows[:, 0], kind="stable")
    score = np.round(rng.random(len(rows)), 2).astype(np.float32)  # with ties
    maskiou = rng.random(len(rows), dtype=np.float32)
    confidence = rng.random(len(rows), dtype=np.float32)
    return Detections(
        images=np.array(sorted(ground_truth.imgs)),
        image_id=rows[order, 0],
        category_id=rows[order, 1],
        bbox=np.array(boxes, dtype=np.float32)[order],
        score=score,
        maskiou=maskiou if scores else None,
        mask_score=score * maskiou if scores else None,
        mask_confidence=confidence if scores else None,
        segmentation=[masks[i] for i in order],
    )
