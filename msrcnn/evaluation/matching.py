"""Which detections match an instance, found by hotcoco."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO

from .coco_metrics import detection_limit, evaluation_of_every_size
from .detections import Detections
from .garbage import no_garbage_collection
from .ground_truth import is_federated
from .image_parts import Part, image_parts


class CategoryMatches(NamedTuple):
    """The detections of a category in decreasing order of score, and its instances.

    Attributes:
        image: int64 array of shape (D,), the index of the image of each detection.
        score: array of shape (D,).
        matched: bool array of shape (T, D), whether it matches an instance at each IoU threshold.
        ignored: bool array of shape (T, D), whether it counts neither as correct nor as wrong.
        instances: int64 array of shape (G,), the index of the image of each instance that counts.
    """

    image: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    instances: np.ndarray


class Matches(NamedTuple):
    """The matches of all categories that have an instance, and the number of images."""

    images: int
    categories: list[CategoryMatches]


@no_garbage_collection()
def match_detections(
    ground_truth: COCO, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
) -> Matches:
    """Matches detections with instances of any size, as COCO's or LVIS's evaluation does.

    Args:
        ground_truth: the dataset, with annotations. Images are indexed in the order of their ids.
        detections, iou_type, scores, max_dets: see
            :meth:`~.coco_metrics.Engine.average_precision`.
    """
    limit = detection_limit(max_dets, detections)
    index = {image_id: number for number, image_id in enumerate(sorted(ground_truth.imgs))}
    found: dict[int, list[CategoryMatches]] = defaultdict(list)
    # As Python objects, the matches of all images would need several times the memory of the
    # detections.
    for part in image_parts(ground_truth, detections, iou_type, scores, limit):
        for category_id, matches in _match_part(ground_truth, part, iou_type, limit, index):
            found[category_id].append(matches)
    categories = [_join(found[category_id]) for category_id in sorted(found)]
    return Matches(len(index), [each for each in categories if len(each.instances)])


def _match_part(
    ground_truth: COCO, part: Part, iou_type: str, limit: int, index: dict[int, int]
) -> Iterator[tuple[int, CategoryMatches]]:
    """Yields the id and the matches of each category that occurs in some images."""
    dataset, results = part.load(ground_truth)
    evaluation = evaluation_of_every_size(
        dataset, results, iou_type, limit, federated=is_federated(ground_truth)
    )
    evaluation.evaluate()
    by_category = defaultdict(list)
    for each in evaluation.eval_imgs:
        if each is not None:
            by_category[each["category_id"]].append(each)
    for category_id, images in by_category.items():
        yield category_id, _of_images(images, index)


def _of_images(images: list[dict], index: dict[int, int]) -> CategoryMatches:
    """Converts what hotcoco has found in each image, image after image."""
    images.sort(key=lambda each: index[each["image_id"]])
    rows = np.array([index[each["image_id"]] for each in images])
    matched, ignored = (
        np.array(
            [list(chain.from_iterable(of_threshold)) for of_threshold in zip(*columns)], dtype=bool
        )
        for columns in ([each[key] for each in images] for key in ("dtMatched", "dtIgnore"))
    )
    return CategoryMatches(
        np.repeat(rows, [len(each["dtScores"]) for each in images]),
        np.array(list(chain.from_iterable(each["dtScores"] for each in images))),
        matched,
        ignored,
        np.repeat(rows, [sum(each["gtInDenominator"]) for each in images]),
    )


def _join(parts: list[CategoryMatches]) -> CategoryMatches:
    """Joins the matches of a category in several parts, and sorts them by score."""
    image, score, matched, ignored, instances = (
        np.concatenate(columns, axis=-1) for columns in zip(*parts)
    )
    order = np.argsort(-score, kind="stable")
    return CategoryMatches(
        image[order], score[order], matched[:, order], ignored[:, order], instances
    )
