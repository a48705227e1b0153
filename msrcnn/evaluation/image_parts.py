"""Splits a dataset and its detections into parts of a few images each, which bounds memory."""

from collections.abc import Iterator
from typing import NamedTuple

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .detections import Detections
from .ground_truth import is_federated

IMAGES = 200  # of a part


class Part(NamedTuple):
    """Some images of a dataset, with their annotations and detections in COCO's formats."""

    images: list[dict]
    annotations: list[dict]
    results: list[dict]

    def load(self, ground_truth: COCO) -> tuple[hotcoco.COCO, hotcoco.COCO]:
        """Passes the part to hotcoco.

        Args:
            ground_truth: the dataset, for its categories.

        Returns:
            The part of the dataset, and its detections.
        """
        content = {"images": self.images, "annotations": self.annotations}
        dataset = hotcoco.COCO({**content, "categories": ground_truth.dataset["categories"]})
        return dataset, dataset.load_res(self.results)


def image_parts(
    ground_truth: COCO, detections: Detections, iou_type: str, scores: np.ndarray, limit: int
) -> Iterator[Part]:
    """Yields all images of a dataset, in the order of their ids.

    Args:
        ground_truth: the dataset, with annotations.
        detections: N detections in its images.
        iou_type: ``"bbox"`` or ``"segm"``.
        scores: array of shape (N,) to rank by.
        limit: number of detections to keep in an image of a dataset in LVIS format, those with
            the highest scores. COCO limits the detections of each category, which is left to the
            evaluation.
    """
    rows = np.arange(len(detections))
    if is_federated(ground_truth):
        rows = _highest(detections.image_id, scores, limit)
    rows = rows[np.argsort(detections.image_id[rows], kind="stable")]
    image_ids = np.array(sorted(ground_truth.imgs))
    starts = np.searchsorted(detections.image_id[rows], image_ids[::IMAGES])
    for number, start in enumerate(starts):
        ids = image_ids[number * IMAGES : (number + 1) * IMAGES].tolist()
        end = starts[number + 1] if number + 1 < len(starts) else len(rows)
        yield Part(
            [ground_truth.imgs[image_id] for image_id in ids],
            [each for image_id in ids for each in ground_truth.imgToAnns.get(image_id, ())],
            detections.results(iou_type, scores, rows[start:end]),
        )


def _highest(image_id: np.ndarray, scores: np.ndarray, limit: int) -> np.ndarray:
    """Returns the rows of the detections with the highest scores of each image, in their order.

    Of equal scores, the first is the higher one.
    """
    order = np.lexsort((-scores, image_id))
    ids = image_id[order]
    rank = np.arange(len(ids)) - np.searchsorted(ids, ids)
    return np.sort(order[rank < limit])
