"""COCO and LVIS average precision, computed by hotcoco or by pycocotools."""

import contextlib
import io
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import hotcoco
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..errors import UserError
from .detections import Detections
from .error_types import error_types
from .ground_truth import is_federated

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
        errors: what each type of error costs, see :func:`~.error_types.error_types`; ``None`` if
            that was not asked for.
    """

    precision: np.ndarray
    categories: list[dict]
    errors: dict | None = None

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
        self,
        detections: Detections,
        iou_type: str,
        scores: np.ndarray,
        max_dets: int,
        errors: bool = False,
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
            errors: also analyze the errors.
        """


def _limit(max_dets: int, detections: Detections) -> int:
    return max_dets if max_dets >= 0 else max(len(detections), 1)


class HotcocoEngine:
    """Computes AP with hotcoco, for datasets in COCO or LVIS format.

    The numbers are bit for bit those of pycocotools, in a fraction of the time.
    """

    def __init__(self, ground_truth: COCO):
        self._federated = is_federated(ground_truth)
        self._ground_truth = hotcoco.COCO(ground_truth.dataset)
        self._categories = _categories(ground_truth)

    def average_precision(
        self,
        detections: Detections,
        iou_type: str,
        scores: np.ndarray,
        max_dets: int,
        errors: bool = False,
    ) -> AveragePrecision:
        evaluation = self.prepare(detections, iou_type, scores, max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
        return AveragePrecision(
            evaluation.eval["precision"][..., -1],
            self._categories,
            error_types(evaluation) if errors else None,
        )

    def prepare(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> hotcoco.COCOeval:
        """Returns a ``COCOeval`` before its ``evaluate()``, which matches detections and instances.

        Args:
            detections, iou_type, scores, max_dets: see :meth:`Engine.average_precision`.
        """
        limit = _limit(max_dets, detections)
        evaluation = hotcoco.COCOeval(
            self._ground_truth,
            self._results(detections, iou_type, scores, limit),
            iou_type,
            lvis_style=self._federated,
        )
        # COCO's limits of 1 and 10 are not reported. LVIS's limit is applied in _results.
        evaluation.params.max_dets = [limit]
        return evaluation

    def _results(
        self, detections: Detections, iou_type: str, scores: np.ndarray, limit: int
    ) -> hotcoco.COCO:
        columns = np.empty((len(detections), 7))
        columns[:, 0], columns[:, 1:5] = detections.image_id, detections.bbox
        columns[:, 5], columns[:, 6] = scores, detections.category_id
        if iou_type == "bbox":
            results = self._ground_truth.load_res(columns)
        else:
            masks = detections.segmentation
            results = self._ground_truth.load_res(columns, segmentation=masks)
            # Given boxes, load_res sets the area to that of the box; COCO uses the mask's area.
            ids = np.arange(1, len(detections) + 1)
            area = np.asarray(hotcoco.mask.area(masks), dtype=float) if masks else np.zeros(0)
            results.update_anns(ids=ids, area=area)
        return results.cap_detections_per_image(limit) if self._federated else results


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
        self,
        detections: Detections,
        iou_type: str,
        scores: np.ndarray,
        max_dets: int,
        errors: bool = False,
    ) -> AveragePrecision:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
            if len(detections):
                results = self._ground_truth.loadRes(detections.results(iou_type, scores))
            else:
                results = COCO()  # loadRes fails on an empty list
                results.dataset = {**self._ground_truth.dataset, "annotations": []}
                results.createIndex()
            evaluation = COCOeval(self._ground_truth, results, iou_type)
            evaluation.params.maxDets = [_limit(max_dets, detections)]
            evaluation.evaluate()
            evaluation.accumulate()
        found = None
        if errors:
            matched = HotcocoEngine(self._ground_truth).prepare(
                detections, iou_type, scores, max_dets
            )
            matched.evaluate()
            found = error_types(matched)
        precision = evaluation.eval["precision"][..., -1]
        return AveragePrecision(precision, _categories(self._ground_truth), found)


def _categories(ground_truth: COCO) -> list[dict]:
    return [ground_truth.cats[category_id] for category_id in sorted(ground_truth.cats)]


ENGINES = {"hotcoco": HotcocoEngine, "pycocotools": PycocotoolsEngine}
