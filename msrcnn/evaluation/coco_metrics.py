"""COCO and LVIS average precision, computed by hotcoco or by pycocotools."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..errors import UserError
from .detections import Detections, present
from .ground_truth import index_dataset, is_federated
from .image_parts import image_parts

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AREAS = {"APs": 1, "APm": 2, "APl": 3}  # index of COCO's area range; 0 is all areas
FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}  # LVIS: rare, common, frequent categories
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0, 1, 101)
CURVES = {"0.50": slice(0, 1), "0.75": slice(5, 6), "0.50:0.95": slice(None)}  # of IOU_THRESHOLDS


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Interpolated precision under one ranking, and the AP metrics averaged from it.

    Attributes:
        precision: array of shape (IoU thresholds, recall thresholds, categories, area ranges),
            as in ``COCOeval.eval["precision"]``; -1 where a category has no instance in an area
            range.
        categories: the dataset's categories, sorted by id.
    """

    precision: np.ndarray
    categories: list[dict]

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """``METRICS`` in percent, followed by ``FREQUENCIES`` if categories have a frequency.

        A metric is ``None`` if the dataset has no instance for it.
        """
        metrics = {name: self._average(name) for name in METRICS}
        frequency = np.array([category.get("frequency") for category in self.categories])
        if any(value is not None for value in frequency):
            for name, code in FREQUENCIES.items():
                metrics[name] = _mean(self.precision[:, :, frequency == code, 0])
        return metrics

    def of_category(self, index: int) -> dict[str, float | None]:
        """Returns ``METRICS`` in percent for the category at this index of ``categories``."""
        return {name: self._average(name, slice(index, index + 1)) for name in METRICS}

    @cached_property
    def by_iou(self) -> list[float | None]:
        """AP in percent at each of ``IOU_THRESHOLDS``."""
        return [_mean(at_threshold[..., 0]) for at_threshold in self.precision]

    @cached_property
    def curves(self) -> dict[str, list[float | None]]:
        """Mean precision over categories, in percent, at each of ``RECALL_THRESHOLDS``.

        The keys are those of ``CURVES``. The mean of a curve is the AP of its IoU thresholds.
        """
        by_recall = self.precision[..., 0].swapaxes(0, 1)
        return {
            name: [_mean(each[thresholds]) for each in by_recall]
            for name, thresholds in CURVES.items()
        }

    def _average(self, name: str, categories: slice = slice(None)) -> float | None:
        precision = self.precision[:, :, categories, AREAS.get(name, 0)]
        if name in ("AP50", "AP75"):
            precision = precision[np.isclose(IOU_THRESHOLDS, int(name[2:]) / 100)]
        return _mean(precision)


def _mean(precision: np.ndarray) -> float | None:
    """Mean precision in percent, as in ``COCOeval.summarize``."""
    precision = precision[precision > -1]
    return float(precision.mean()) * 100 if precision.size else None


class Engine(Protocol):
    """Computes average precision on one dataset."""

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        """Computes the precision of detections that are ranked by the given scores.

        Args:
            detections: N detections; N may be 0.
            iou_type: ``"bbox"`` or ``"segm"``.
            scores: array of shape (N,) to rank by.
            max_dets: maximum number of detections per image, those with the highest scores. On
                datasets in COCO format the limit applies to each category (COCO's default is
                100), on datasets in LVIS format to all categories together (LVIS's default is
                300). A negative number means no limit, as in Detectron2.
        """


def detection_limit(max_dets: int, detections: Detections) -> int:
    """Returns the limit that ``max_dets`` stands for, see :meth:`Engine.average_precision`."""
    return max_dets if max_dets >= 0 else max(len(detections), 1)


def parameters(iou_type: str, limit: int) -> hotcoco.Params:
    """Returns COCO's parameters, with one limit: those of 1 and 10 are not reported."""
    chosen = hotcoco.Params(iou_type=iou_type)
    chosen.max_dets = [limit]
    return chosen


def evaluation_of_every_size(
    dataset: hotcoco.COCO, results: hotcoco.COCO, iou_type: str, limit: int, *, federated: bool
) -> hotcoco.COCOeval:
    """Returns a ``COCOeval`` before its ``evaluate()``, without COCO's ranges of object sizes.

    Args:
        dataset: the ground truth.
        results: the detections, from ``dataset.load_res``.
        iou_type, limit: see :func:`parameters`.
        federated: whether the dataset is in LVIS format.
    """
    evaluation = hotcoco.COCOeval(dataset, results, iou_type, lvis_style=federated)
    evaluation.params.max_dets = [limit]
    evaluation.params.area_rng = evaluation.params.area_rng[:1]
    evaluation.params.area_rng_lbl = evaluation.params.area_rng_lbl[:1]
    return evaluation


class HotcocoEngine:
    """Computes AP with hotcoco, for datasets in COCO or LVIS format.

    The numbers are bit for bit those of pycocotools, in a fraction of the time. Only the matches of
    all images are in memory, and masks of a few images at a time.
    """

    def __init__(self, ground_truth: COCO):
        self._ground_truth = ground_truth
        self._categories = _categories(ground_truth)

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        limit = detection_limit(max_dets, detections)
        streaming = hotcoco.StreamingEval(
            self._ground_truth.dataset["categories"],
            iou_type,
            lvis_style=is_federated(self._ground_truth),
            params=parameters(iou_type, limit),
        )
        for part in image_parts(self._ground_truth, detections, iou_type, scores, limit):
            streaming.update(*part)
        evaluation = streaming.finalize()
        evaluation.accumulate()
        return AveragePrecision(present(evaluation.eval)["precision"][..., -1], self._categories)


class PycocotoolsEngine:
    """Computes AP with pycocotools, the reference implementation."""

    def __init__(self, ground_truth: COCO):
        """
        Raises:
            UserError: if the dataset is in LVIS format, which pycocotools does not support.
        """
        if is_federated(ground_truth):
            raise UserError(
                "TEST.COCO_ENGINE 'pycocotools' does not support datasets in LVIS format, whose "
                "images have 'neg_category_ids': use 'hotcoco'"
            )
        self._ground_truth = ground_truth

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
            if len(detections):
                results = self._ground_truth.loadRes(detections.results(iou_type, scores))
            else:
                # loadRes fails on an empty list.
                results = index_dataset({**self._ground_truth.dataset, "annotations": []})
            evaluation = COCOeval(self._ground_truth, results, iou_type)
            evaluation.params.maxDets = [detection_limit(max_dets, detections)]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][..., -1]
        return AveragePrecision(precision, _categories(self._ground_truth))


def _categories(ground_truth: COCO) -> list[dict]:
    return [ground_truth.cats[category_id] for category_id in sorted(ground_truth.cats)]


ENGINES: dict[str, Callable[[COCO], Engine]] = {
    "hotcoco": HotcocoEngine,
    "pycocotools": PycocotoolsEngine,
}
