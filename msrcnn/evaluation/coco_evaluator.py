"""A Detectron2 evaluator that ranks masks by box score, by mask score and by reference scores."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..errors import UserError
from .category_ids import category_ids
from .detections import Detections
from .ground_truth import dataset_record, load_ground_truth
from .predictions_file import save_predictions
from .rankings import Evaluation
from .result_files import DETECTIONS, PREDICTIONS, evaluate_and_write, write_results
from .settings import DEFAULT_SETTINGS, EvaluationSettings

PART_SIZE = 100  # images whose detections are joined


class MaskScoringEvaluator(DatasetEvaluator):
    """Evaluates box AP, and mask AP under every ranking that the model's scores allow.

    It also accepts plain Mask R-CNN models and box detectors, and leaves out what they do not
    predict.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        settings: EvaluationSettings = DEFAULT_SETTINGS,
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] = (),
        false_positives: str | None = None,
        provenance: dict | None = None,
        report: Callable[[Evaluation, Path], None] | None = None,
    ):
        """
        Args:
            dataset_name: name of a registered dataset with a COCO annotation file.
            output_dir: folder for the files of :func:`evaluate_and_write`. Its subfolder
                ``inference/`` receives ``predictions.npz``, which contains all detections, and
                the files of :func:`write_results`.
            settings: how to evaluate the detections.
            num_classes: number of classes of the model, compared with the dataset's categories;
                ``None`` skips the check.
            class_names: names of the model's classes by index, which are matched with those of the
                dataset. The dataset may lack some of them: their detections are ignored. If empty,
                only the numbers are compared.
            false_positives: see :func:`evaluate_and_write`.
            provenance: what is known of the model, for ``evaluation.json``.
            report: called with the evaluation and the output folder, on the main process only.

        Raises:
            UserError: if the dataset has no annotation file, or categories that the model does not
                have.
        """
        self._ground_truth = load_ground_truth(dataset_name)
        self._category_ids = category_ids(self._ground_truth, dataset_name, class_names)
        if not class_names and num_classes not in (None, len(self._category_ids)):
            raise UserError(
                f"dataset '{dataset_name}' has {len(self._category_ids)} categories, but the model "
                f"predicts {num_classes} classes, whose names are unknown: use a model trained on "
                f"these categories, with MODEL.ROI_HEADS.NUM_CLASSES {len(self._category_ids)}"
            )
        self._output_dir = Path(output_dir)
        self._settings = settings
        self._false_positives = false_positives
        self._provenance = {"dataset": dataset_record(dataset_name), **(provenance or {})}
        self._report = report

    def reset(self) -> None:
        self._joined: list[Detections] = []  # of PART_SIZE images each
        self._parts: list[Detections] = []
        self._start = time.perf_counter()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for image, output in zip(inputs, outputs):
            self._parts.append(
                Detections.from_instances(
                    output["instances"], image["image_id"], self._category_ids
                )
            )
            if len(self._parts) == PART_SIZE:
                self._join()

    def _join(self) -> None:
        """Joins the last detections, whose many small arrays keep the heap from shrinking."""
        if self._parts:
            self._joined.append(Detections.stack(self._parts))
        self._parts = []

    def evaluate(self) -> OrderedDict:
        """Gathers the detections of all processes, writes the result files and returns metrics.

        Returns:
            The metrics of :func:`evaluate_and_write` on the main process, an empty dict on the
            others.
        """
        inference = time.perf_counter() - self._start
        self._join()
        gathered = comm.gather(Detections.concatenate(self._joined) if self._joined else None)
        self._joined = []
        if not comm.is_main_process():
            return OrderedDict()
        detections = Detections.concatenate([part for part in gathered if part is not None])
        start = time.perf_counter()
        save_predictions(detections, self._output_dir / PREDICTIONS, self._ground_truth)
        write_results(detections, self._output_dir / DETECTIONS)
        seconds = {"inference": inference, "results": time.perf_counter() - start}
        return evaluate_and_write(
            self._ground_truth,
            detections,
            self._output_dir,
            self._settings,
            seconds=seconds,
            provenance=self._provenance,
            report=self._report,
            false_positives=self._false_positives,
        )
