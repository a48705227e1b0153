"""COCO average precision: what the numbers are, and the two libraries that count them."""

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
from .ground_truth import is_federated

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
AREAS = {"APs": 1, "APm": 2, "APl": 3}  # position among COCO's area ranges; 0 is all
FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}  # LVIS: rare, common, frequent categories
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Precision under one ranking, and the averages over it that are reported.

    Attributes:
        precision: of shape (IoU thresholds, recall thresholds, categories, areas); -1 where a
            category has no instance of an area.
        categories: as they stand in the dataset, in the order of their ids.
    """

    precision: np.ndarray
    categories: list[dict]

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """Percent, for each of ``METRICS``, and for those of LVIS where categories have a
        frequency; ``None`` where the dataset has no instance to find."""
        found = {name: self._average(name) for name in METRICS}
        frequency = np.array([category.get("frequency") for category in self.categories])
        if any(value is not None for value in frequency):
            for name, code in FREQUENCIES.items():
                found[name] = _mean(self.precision[:, :, frequency == code, 0])
        return found

    def of_category(self, index: int) -> dict[str, float | None]:
        """Percent, for each of ``METRICS``, of one category by its position."""
        return {name: self._average(name, slice(index, index + 1)) for name in METRICS}

    @cached_property
    def by_iou(self) -> list[float | None]:
        """AP in percent at each of ``IOU_THRESHOLDS``."""
        return [_mean(at_threshold[..., 0]) for at_threshold in self.precision]

    def _average(self, name: str, categories: slice = slice(None)) -> float | None:
        precision = self.precision[:, :, categories, AREAS.get(name, 0)]
        if name in ("AP50", "AP75"):
            precision = precision[np.isclose(IOU_THRESHOLDS, int(name[2:]) / 100)]
        return _mean(precision)


def _mean(precision: np.ndarray) -> float | None:
    """Mean precision in percent, as ``COCOeval.summarize`` takes it."""
    precision = precision[precision > -1]
    return float(precision.mean()) * 100 if precision.size else None


class Engine(Protocol):
    """Counts average precision on one dataset."""

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        """
        Args:
            detections: perhaps none.
            iou_type: ``"bbox"`` or ``"segm"``.
            scores: what to rank by, of shape (N,).
            max_dets: detections of an image that count, the best by score: of each category, as
                COCO has it (its own limit is 100), or of all, as LVIS (300). A negative number
                is all of them, Detectron2's way to say so.
        """


def _limit(max_dets: int, detections: Detections) -> int:
    return max_dets if max_dets >= 0 else max(len(detections), 1)


class HotcocoEngine:
    """hotcoco: the numbers of pycocotools bit for bit, in a fraction of the time; and LVIS."""

    def __init__(self, ground_truth: COCO):
        self._federated = is_federated(ground_truth)
        self._ground_truth = hotcoco.COCO(ground_truth.dataset)
        self._categories = _categories(ground_truth)

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        evaluation = self.evaluated(detections, iou_type, scores, max_dets)
        evaluation.accumulate()
        return AveragePrecision(evaluation.eval["precision"][..., -1], self._categories)

    def evaluated(
        self,
        detections: Detections,
        iou_type: str,
        scores: np.ndarray,
        max_dets: int,
        *,
        all_areas: bool = True,
    ) -> hotcoco.COCOeval:
        """Detections matched with instances, not yet accumulated.

        Args:
            detections, iou_type, scores, max_dets: see :meth:`Engine.average_precision`.
            all_areas: match within each of COCO's area ranges, too.
        """
        limit = _limit(max_dets, detections)
        evaluation = hotcoco.COCOeval(
            self._ground_truth,
            self._results(detections, iou_type, scores, limit),
            iou_type,
            lvis_style=self._federated,
        )
        # A limit of 1 and of 10 would only cost; LVIS's limit has been applied already.
        evaluation.params.max_dets = [limit]
        if not all_areas:
            evaluation.params.area_rng = evaluation.params.area_rng[:1]
            evaluation.params.area_rng_lbl = evaluation.params.area_rng_lbl[:1]
        evaluation.evaluate()
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
            # Where there is a box, an area is the box's; COCO takes that of a mask from the mask.
            ids = np.arange(1, len(detections) + 1)
            area = np.asarray(hotcoco.mask.area(masks), dtype=float) if masks else np.zeros(0)
            results.update_anns(ids=ids, area=area)
        return results.cap_detections_per_image(limit) if self._federated else results


class PycocotoolsEngine:
    """pycocotools: the reference."""

    def __init__(self, ground_truth: COCO):
        """
        Raises:
            UserError: for a dataset of LVIS's format, which pycocotools knows nothing of.
        """
        if is_federated(ground_truth):
            raise UserError(
                "TEST.COCO_ENGINE 'pycocotools' cannot evaluate data in LVIS's format, where "
                "images name the categories looked for; 'hotcoco' can"
            )
        self._ground_truth = ground_truth

    def average_precision(
        self, detections: Detections, iou_type: str, scores: np.ndarray, max_dets: int
    ) -> AveragePrecision:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints as it goes
            if len(detections):
                results = self._ground_truth.loadRes(detections.results(iou_type, scores))
            else:
                results = COCO()  # loadRes takes no empty list
                results.dataset = {**self._ground_truth.dataset, "annotations": []}
                results.createIndex()
            evaluation = COCOeval(self._ground_truth, results, iou_type)
            evaluation.params.maxDets = [_limit(max_dets, detections)]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][..., -1]
        return AveragePrecision(precision, _categories(self._ground_truth))


def _categories(ground_truth: COCO) -> list[dict]:
    return [ground_truth.cats[category_id] for category_id in sorted(ground_truth.cats)]


ENGINES = {"hotcoco": HotcocoEngine, "pycocotools": PycocotoolsEngine}
