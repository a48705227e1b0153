"""Detections that several tests draw: made from the truth, with errors."""

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from msrcnn.evaluation import Detections


def index(content: dict) -> COCO:
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def stand_in(ground_truth: COCO, seed: int = 0) -> Detections:
    """Instances found two or three times, shifted and cut; MaskIoU predicted with an error."""
    rng = np.random.default_rng(seed)
    rows = []
    for annotation in ground_truth.dataset["annotations"]:
        if annotation["iscrowd"]:
            continue
        mask = ground_truth.annToMask(annotation)
        x, y, width, height = annotation["bbox"]
        for _ in range(rng.integers(2, 4)):
            shift = np.round(rng.normal(0, 0.08, 2) * [height, width]).astype(int)
            moved = np.roll(mask, shift, axis=(0, 1))
            if rng.random() < 0.3:
                moved[: int(y + height * rng.random())] = 0
            iou = (mask & moved).sum() / max((mask | moved).sum(), 1)
            rle = mask_util.encode(np.asfortranarray(moved))
            box = np.array([x, y, width, height]) + rng.normal(0, 0.04, 4) * width
            box[2:] = np.maximum(box[2:], 1)
            maskiou = np.clip(iou + rng.normal(0, 0.1), 0, 1)
            rows.append((annotation, box, rle, maskiou, rng.random(), rng.random()))
    annotations, boxes, masks, maskiou, score, confidence = zip(*rows)
    score, maskiou = (np.array(column, dtype=np.float32) for column in (score, maskiou))
    return Detections(
        images=np.array(sorted(ground_truth.imgs)),
        image_id=np.array([a["image_id"] for a in annotations]),
        category_id=np.array([a["category_id"] for a in annotations]),
        bbox=np.array(boxes, dtype=np.float32),
        score=score,
        maskiou=maskiou,
        mask_score=score * maskiou,
        mask_confidence=np.array(confidence, dtype=np.float32),
        segmentation=list(masks),
    )
