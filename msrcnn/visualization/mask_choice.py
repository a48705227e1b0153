"""Selects the masks whose rank changes most under the mask score."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..evaluation import Evaluation
from ..evaluation.ground_truth import instances_by_category

NUM_MASKS = 8  # in each group of the gallery
MAX_PER_IMAGE = 2  # so that one unusual image does not fill the gallery


class RankedMask(NamedTuple):
    """A detection and its ranks among the detections with the highest box scores.

    Attributes:
        index: index of the detection.
        box_rank: rank by box score, starting at 1.
        mask_rank: rank by mask score among the same detections, or ``None`` without mask scores.
    """

    index: int
    box_rank: int
    mask_rank: int | None


def most_moved(evaluation: Evaluation) -> tuple[list[RankedMask], list[RankedMask]]:
    """Returns the masks whose rank by mask score differs most from their rank by box score.

    Only the detections with the highest box scores are considered, as many as the dataset has
    instances (without crowds), because they determine AP. They are ranked among themselves.

    Args:
        evaluation: an evaluation of detections with mask scores.

    Returns:
        The masks that move down most and the masks that move up most, each sorted by the size of
        the move, largest first.
    """
    best = _best_by_box_score(evaluation)
    by_mask_score = np.argsort(-evaluation.scores["segm_mask_score"][best], kind="stable")
    mask_rank = np.empty(len(best), dtype=np.int64)
    mask_rank[by_mask_score] = np.arange(len(best))
    moved_down = mask_rank - np.arange(len(best))

    def largest(move: np.ndarray) -> list[RankedMask]:
        order = np.argsort(-move, kind="stable")
        chosen = _limit_per_image(evaluation, best, order[move[order] > 0])
        return [RankedMask(int(best[i]), i + 1, int(mask_rank[i]) + 1) for i in chosen]

    return largest(moved_down), largest(-moved_down)


def most_overrated(evaluation: Evaluation) -> list[RankedMask]:
    """Returns the masks whose box score exceeds their true MaskIoU most: good boxes, poor masks.

    The same detections as in :func:`most_moved` are considered, if they match an instance. Mask
    scores are not needed.

    Args:
        evaluation: an evaluation of detections with masks.
    """
    best = _best_by_box_score(evaluation)
    excess = evaluation.scores["segm_box_score"][best] - evaluation.true_maskiou.matched[best]
    order = np.argsort(-excess, kind="stable")  # NaN (no matched instance) comes last
    chosen = _limit_per_image(evaluation, best, order[excess[order] > 0])
    return [RankedMask(int(best[i]), i + 1, None) for i in chosen]


def _best_by_box_score(evaluation: Evaluation) -> np.ndarray:
    num_instances = instances_by_category(evaluation.ground_truth).total()
    by_box_score = np.argsort(-evaluation.scores["segm_box_score"], kind="stable")
    return by_box_score[:num_instances]


def _limit_per_image(evaluation: Evaluation, best: np.ndarray, order: np.ndarray) -> list[int]:
    """Selects some of the positions ``order`` in ``best``, which has indices of detections."""
    image_ids = evaluation.detections.image_id[best]
    return few_per_image((position, image_ids[position]) for position in order.tolist())


def few_per_image(candidates: Iterable[tuple[int, int]]) -> list[int]:
    """Selects up to ``NUM_MASKS`` candidates, at most ``MAX_PER_IMAGE`` per image.

    Args:
        candidates: each with the id of its image, in order of preference.
    """
    chosen: list[int] = []
    counts: dict[int, int] = {}
    for candidate, image_id in candidates:
        counts[image_id] = counts.get(image_id, 0) + 1
        if counts[image_id] <= MAX_PER_IMAGE:
            chosen.append(candidate)
        if len(chosen) == NUM_MASKS:
            break
    return chosen
