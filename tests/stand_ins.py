"""Synthetic detections and datasets for evaluation tests, with optional parts left out."""

import copy
import dataclasses

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO

from msrcnn.evaluation import Detections, Evaluation

SCORES = ("maskiou", "mask_score", "mask_confidence")


def index(content: dict) -> COCO:
    """Builds a COCO object from the content of an annotation file."""
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


def stand_in(ground_truth: COCO, seed: int = 0) -> Detections:
    """Creates two or three shifted, partly cropped detections of each instance.

    Box scores are random. Predicted MaskIoU is the true MaskIoU plus noise.

    Args:
        ground_truth: the dataset.
        seed: of the random numbers.
    """
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


def without_scores(detections: Detections) -> Detections:
    """Returns detections with the columns of a plain Mask R-CNN."""
    return dataclasses.replace(detections, **dict.fromkeys(SCORES))


def first_images(ground_truth: COCO, number: int) -> COCO:
    """Returns the dataset with only its first images."""
    kept = set(sorted(ground_truth.imgs)[:number])
    content = ground_truth.dataset
    images = [image for image in content["images"] if image["id"] in kept]
    annotations = [a for a in content["annotations"] if a["image_id"] in kept]
    return index({**content, "images": images, "annotations": annotations})


def box_detector(ground_truth: COCO, detections: Detections):
    return ground_truth, dataclasses.replace(without_scores(detections), segmentation=None)


def no_detection(ground_truth: COCO, detections: Detections):
    columns = {f.name: getattr(detections, f.name)[:0] for f in dataclasses.fields(detections)}
    return ground_truth, Detections(**{**columns, "images": detections.images})


def no_instance(ground_truth: COCO, detections: Detections):
    return index({**ground_truth.dataset, "annotations": []}), detections


def no_mask_annotated(ground_truth: COCO, detections: Detections):
    content = copy.deepcopy(ground_truth.dataset)
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    return index(content), detections


def one_class(ground_truth: COCO, detections: Detections):
    content = copy.deepcopy(ground_truth.dataset)
    content["categories"] = content["categories"][:1]
    (category_id,) = (category["id"] for category in content["categories"])
    for annotation in content["annotations"]:
        annotation["category_id"] = category_id
    category_ids = np.full(len(detections), category_id)
    return index(content), dataclasses.replace(detections, category_id=category_ids)


def as_many_classes_as_lvis(ground_truth: COCO, detections: Detections):
    first = max(ground_truth.cats) + 1
    numbers = range(first, first + 1203 - len(ground_truth.cats))
    others = [{"id": number, "name": f"class {number}"} for number in numbers]
    categories = ground_truth.dataset["categories"] + others
    return index({**ground_truth.dataset, "categories": categories}), detections


# Special cases of evaluation: functions of a dataset and of detections with all columns, which
# return the dataset and the detections to evaluate.
CASES = {
    "plain Mask R-CNN": lambda truth, detections: (truth, without_scores(detections)),
    "box detector": box_detector,
    "no detection": no_detection,
    "nothing at all": lambda truth, _: (truth, Detections.nothing()),
    "no instance": no_instance,
    "no mask annotated": no_mask_annotated,
    "one class": one_class,
    "1203 classes": as_many_classes_as_lvis,
}


def repeated(evaluation: Evaluation, number: int) -> Evaluation:
    """Repeats the detections of an evaluation until there are at least ``number``."""
    detections = evaluation.detections
    times = -(-number // len(detections))
    columns = {
        name: np.concatenate([getattr(detections, name)] * times)
        for name in ("image_id", "category_id", "bbox", "score", *SCORES)
    }
    masks = detections.segmentation[:] * times
    true = (np.tile(column, times) for column in evaluation.true_maskiou)
    return dataclasses.replace(
        evaluation,
        detections=dataclasses.replace(detections, segmentation=masks, **columns),
        scores={name: np.tile(scores, times) for name, scores in evaluation.scores.items()},
        true_maskiou=type(evaluation.true_maskiou)(*true),
    )
