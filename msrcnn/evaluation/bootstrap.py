"""Bootstrap over images: confidence intervals of AP and of differences in AP.

Detections are matched with instances once. A sample then only counts how often each image was
drawn, so that precision and recall of all samples are cumulative sums of these counts. (hotcoco's
``compare`` counts an image that was drawn several times once: its intervals are too narrow.)
"""

import contextlib
import gc
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import hotcoco
import numpy as np
from pycocotools.coco import COCO

from .coco_metrics import RECALL_THRESHOLDS, HotcocoEngine
from .detections import Detections

SEED = 0
CONFIDENCE = 0.95
# From fewer images, samples say little about other images: from one, all samples are the same.
MIN_IMAGES = 20
MAX_COUNTS = 250_000  # detections x samples at a time, which fit into a processor's cache


def too_few_images(images: int) -> str:
    """Says why there is no interval, if a dataset has too few images; else empty."""
    if images >= MIN_IMAGES:
        return ""
    return f"no interval: {images} image{'s'[: images != 1]}, at least {MIN_IMAGES} needed"


def gain_interval(
    before: hotcoco.COCOeval, after: hotcoco.COCOeval, samples: int
) -> list[float] | None:
    """Returns the 95% confidence interval of the AP that ``after`` gains over ``before``.

    Each sample draws as many images as the dataset has, with replacement, and computes AP of both
    on the same images. Pairing removes the variance due to easy and hard images.

    Args:
        before, after: results on the same dataset, from
            :meth:`~.coco_metrics.HotcocoEngine.prepare`.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percentage points, or ``None`` for fewer than ``MIN_IMAGES``.
    """
    images = len(before.coco_gt.get_img_ids())
    if too_few_images(images):
        return None
    counts = draw(images, samples)
    return _interval(average_precision(after, counts) - average_precision(before, counts))


def ap_interval(
    ground_truth: COCO,
    detections: Detections,
    iou_type: str,
    scores: np.ndarray,
    *,
    max_dets: int,
    samples: int,
) -> list[float] | None:
    """Returns the 95% confidence interval of an AP.

    Args:
        ground_truth: the dataset, with annotations.
        detections, iou_type, scores, max_dets: see :meth:`~.coco_metrics.Engine.average_precision`.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percent, or ``None`` for fewer than ``MIN_IMAGES``.
    """
    if too_few_images(len(ground_truth.imgs)):
        return None
    engine = HotcocoEngine(ground_truth)
    prepared = engine.prepare(detections, iou_type, scores, max_dets)
    return _interval(average_precision(prepared, draw(len(ground_truth.imgs), samples)))


def _interval(values: np.ndarray) -> list[float]:
    tail = (1 - CONFIDENCE) / 2
    return (np.quantile(values, [tail, 1 - tail]) * 100).tolist()


def draw(images: int, samples: int) -> np.ndarray:
    """Draws samples of images with replacement, from a fixed seed.

    Returns:
        int32 array of shape (images, samples): how often each image is in each sample.
    """
    counts = np.random.default_rng(SEED).multinomial(images, [1 / images] * images, size=samples)
    return np.ascontiguousarray(counts.T.astype(np.int32))


class _Category(NamedTuple):
    """The detections of a category in decreasing order of score, and its instances.

    Attributes:
        image: array of shape (D,), the index of the image of each detection.
        matched: bool array of shape (T, D), whether it matches an instance at each IoU threshold.
        ignored: bool array of shape (T, D), whether it counts neither as right nor as wrong.
        instances: array of shape (G,), the index of the image of each instance that counts.
    """

    image: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    instances: np.ndarray


def average_precision(prepared: hotcoco.COCOeval, counts: np.ndarray) -> np.ndarray:
    """Computes COCO's AP on samples of the images.

    Args:
        prepared: see :func:`gain_interval`.
        counts: array of shape (images, S), how often each image, in the order of the ids,
            is in each sample.

    Returns:
        Array of shape (S,), AP from 0 to 1; 0 for a sample without instances. Like COCO's, it
        averages over the categories with an instance in the sample.
    """
    samples = counts.shape[1]
    total, categories = np.zeros(samples), np.zeros(samples)
    thresholds = len(prepared.params.iou_thrs) * len(RECALL_THRESHOLDS)
    for category in _categories(prepared):
        step = max(MAX_COUNTS // max(len(category.image), 1), 16)
        for start in range(0, samples, step):
            part = slice(start, start + step)
            drawn = np.ascontiguousarray(counts[:, part])
            instances = drawn[category.instances].sum(axis=0)
            total[part] += _precision_sum(category, drawn, instances) / thresholds
            categories[part] += instances > 0
    return total / np.maximum(categories, 1)


def _precision_sum(category: _Category, counts: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Sums the interpolated precision over IoU and recall thresholds, for each of S samples.

    Copies of a detection are adjacent in a sample, so that precision at the last one is all that
    interpolation needs; and it needs only that at right detections.

    Args:
        category: the category.
        counts: array of shape (images, S).
        instances: array of shape (S,), the number of instances.
    """
    threshold, position = np.nonzero(category.matched & ~category.ignored)
    if not len(position) or not instances.any():
        return np.zeros(counts.shape[1])
    starts = np.flatnonzero(np.diff(threshold, prepend=-1))  # of each IoU threshold, in position
    lengths = np.diff(starts, append=len(position))
    right = np.cumsum(counts[category.image[position]], axis=0, dtype=np.int32)
    right[starts[1] if len(starts) > 1 else len(right) :] -= np.repeat(
        right[starts[1:] - 1], lengths[1:], axis=0
    )
    every = counts[category.image[: position.max() + 1]]
    np.cumsum(every, axis=0, out=every)
    every = every[position]
    if category.ignored.any():
        every -= _ignored_before(category, counts, threshold, position)
    precision = right / (every + np.spacing(1))
    for start, length in zip(starts, lengths):
        backwards = precision[start : start + length][::-1]
        np.maximum.accumulate(backwards, axis=0, out=backwards)
    # The number of recall thresholds that are reached, by the number of right detections.
    numbers = np.arange(right.max() + 1)[:, None] / np.maximum(instances, 1)
    reached = np.searchsorted(RECALL_THRESHOLDS, numbers.ravel(), side="right")
    reached = np.take_along_axis(reached.reshape(numbers.shape), right, axis=0)
    newly = np.diff(reached, axis=0, prepend=0)
    newly[starts] = reached[starts]
    return np.einsum("ps,ps->s", precision, newly) * (instances > 0)


def _ignored_before(
    category: _Category, counts: np.ndarray, threshold: np.ndarray, position: np.ndarray
) -> np.ndarray:
    """Counts the ignored detections before each right one, (P,), as an array of shape (P, S)."""
    result = np.zeros((len(position), counts.shape[1]), dtype=np.int32)
    for index in np.unique(threshold):
        ignored = np.flatnonzero(category.ignored[index])
        number = np.cumsum(counts[category.image[ignored]], axis=0)
        number = np.concatenate([np.zeros_like(number[:1]), number]) if len(ignored) else 0
        rows = threshold == index
        if len(ignored):
            result[rows] = number[np.searchsorted(ignored, position[rows])]
    return result


def _categories(prepared: hotcoco.COCOeval) -> Iterator[_Category]:
    """Yields the categories that have an instance.

    They are matched one after the other: as Python objects, the matches of all would need several
    times the memory of the detections.
    """
    image_ids = sorted(prepared.coco_gt.get_img_ids())
    index = {image_id: index for index, image_id in enumerate(image_ids)}
    prepared.params.area_rng = prepared.params.area_rng[:1]  # without those of object sizes
    prepared.params.area_rng_lbl = prepared.params.area_rng_lbl[:1]
    for category_id in sorted(prepared.coco_gt.get_cat_ids()):
        prepared.params.cat_ids = [category_id]
        prepared.evaluate()
        with _no_garbage_collection():  # it would look through many numbers again and again
            images = [each for each in prepared.eval_imgs if each is not None]
            category = _category(images, index) if images else None
            del images
        if category is not None and len(category.instances):
            yield category


def _category(images: list[dict], index: dict[int, int]) -> _Category:
    """Joins what hotcoco has found in each image."""
    images.sort(key=lambda each: index[each["image_id"]])
    rows = np.array([index[each["image_id"]] for each in images])
    scores = np.array(list(chain.from_iterable(each["dtScores"] for each in images)))
    order = np.argsort(-scores, kind="stable")
    matched, ignored = (
        np.array(
            [list(chain.from_iterable(of_threshold)) for of_threshold in zip(*columns)], dtype=bool
        )[:, order]
        for columns in ([each[key] for each in images] for key in ("dtMatched", "dtIgnore"))
    )
    return _Category(
        np.repeat(rows, [len(each["dtScores"]) for each in images])[order],
        matched,
        ignored,
        np.repeat(rows, [sum(each["gtInDenominator"]) for each in images]),
    )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
