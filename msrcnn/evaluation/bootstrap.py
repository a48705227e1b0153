"""Bootstrap over images: confidence intervals of AP and of differences in AP.

Detections are matched with instances once. A sample then only counts how often each image was
drawn, so that precision and recall of all samples are cumulative sums of these counts. (hotcoco's
``compare`` counts an image that was drawn several times once: its intervals are too narrow.)
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from pycocotools.coco import COCO

from .coco_metrics import RECALL_THRESHOLDS
from .detections import Detections
from .intervals import CONFIDENCE
from .matching import CategoryMatches, Matches, match_detections

SEED = 0
# Samples of fewer images say little about other images; those of a single image are all the same.
MIN_IMAGES = 20
MAX_COUNTS = 250_000  # detections x samples at a time, which fit into a processor's cache


def too_few_images(images: int) -> str:
    """Returns why there is no interval if a dataset has too few images, otherwise ``""``."""
    if images >= MIN_IMAGES:
        return ""
    return f"no interval: {images} image{'s'[: images != 1]}, at least {MIN_IMAGES} needed"


def interval_text(ci95: list[float] | None, images: int) -> str:
    """Returns the interval of a gain in parentheses, or why there is none; may be empty.

    Args:
        ci95: lower and upper bound, or ``None``.
        images: number of images of the dataset.
    """
    if ci95 is None:
        text = too_few_images(images)
    else:
        low, high = ci95
        text = f"95% interval {low:+.2f} to {high:+.2f}"
    return f" ({text})" if text else ""


def gain_interval(before: Matches, after: Matches, samples: int) -> list[float] | None:
    """Returns the 95% confidence interval of the AP that ``after`` gains over ``before``.

    Each sample draws as many images as the dataset has, with replacement, and computes AP of both
    on the same images. Pairing removes the variance due to easy and hard images.

    Args:
        before, after: matches on the same dataset.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percentage points, or ``None`` for fewer than ``MIN_IMAGES``.
    """
    if too_few_images(before.images):
        return None
    counts = draw(before.images, samples)
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
    matches = match_detections(ground_truth, detections, iou_type, scores, max_dets)
    return _interval(average_precision(matches, draw(matches.images, samples)))


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


def average_precision(matches: Matches, counts: np.ndarray) -> np.ndarray:
    """Computes COCO's AP on samples of the images.

    Args:
        matches: the matches of a ranking.
        counts: array of shape (images, S), how often each image, in the order of the ids,
            is in each sample.

    Returns:
        Array of shape (S,), AP from 0 to 1; 0 for a sample without instances. Like COCO's, it
        averages over the categories with an instance in the sample.
    """
    samples = counts.shape[1]
    total, categories = np.zeros(samples), np.zeros(samples)
    # NumPy computes without Python's lock. The sum is the same for any number of threads.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for ap, has_instances in pool.map(partial(_category_ap, counts=counts), matches.categories):
            total += ap
            categories += has_instances
    return total / np.maximum(categories, 1)


def _category_ap(category: CategoryMatches, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the AP of a category in each of S samples, and whether it has an instance there."""
    samples = counts.shape[1]
    ap, has_instances = np.zeros(samples), np.zeros(samples, dtype=bool)
    thresholds = len(category.matched) * len(RECALL_THRESHOLDS)
    step = max(MAX_COUNTS // max(len(category.image), 1), 16)
    for start in range(0, samples, step):
        part = slice(start, start + step)
        drawn = np.ascontiguousarray(counts[:, part])
        instances = drawn[category.instances].sum(axis=0)
        ap[part] = _precision_sum(category, drawn, instances) / thresholds
        has_instances[part] = instances > 0
    return ap, has_instances


def _precision_sum(
    category: CategoryMatches, counts: np.ndarray, instances: np.ndarray
) -> np.ndarray:
    """Sums the interpolated precision over IoU and recall thresholds, for each of S samples.

    Copies of a detection are adjacent in a sample, so that precision at the last one is all that
    interpolation needs; and it needs only that at correct detections.

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
    # Smaller types are faster: rounding changes an AP by less than 1e-7.
    precision = np.divide(right, np.maximum(every, 1), dtype=np.float32, casting="unsafe")
    for start, length in zip(starts, lengths):
        backwards = precision[start : start + length][::-1]
        np.maximum.accumulate(backwards, axis=0, out=backwards)
    # The number of recall thresholds that are reached, by the number of correct detections.
    numbers = np.arange(right.max() + 1)[:, None] / np.maximum(instances, 1)
    reached = np.searchsorted(RECALL_THRESHOLDS, numbers.ravel(), side="right").astype(np.uint8)
    samples = counts.shape[1]
    reached = reached.take(right * samples + np.arange(samples, dtype=np.int32))
    newly = np.diff(reached, axis=0, prepend=np.uint8(0))
    newly[starts] = reached[starts]
    return np.einsum("ps,ps->s", precision, newly, dtype=np.float64) * (instances > 0)


def _ignored_before(
    category: CategoryMatches, counts: np.ndarray, threshold: np.ndarray, position: np.ndarray
) -> np.ndarray:
    """Counts the ignored detections before each correct one, (P,), as an array of shape (P, S)."""
    result = np.zeros((len(position), counts.shape[1]), dtype=np.int32)
    for index in np.unique(threshold):
        ignored = np.flatnonzero(category.ignored[index])
        if not len(ignored):
            continue
        number = np.cumsum(counts[category.image[ignored]], axis=0)
        number = np.concatenate([np.zeros_like(number[:1]), number])
        rows = threshold == index
        result[rows] = number[np.searchsorted(ignored, position[rows])]
    return result
