"""Publishes an evaluation: the HTML report, and images for TensorBoard during training."""

import contextlib
import io
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.events import EventStorage, TensorboardXWriter, get_event_storage
from PIL import Image

from ..data.custom import custom_annotations
from ..data.registered import image_root
from ..escaping import printable
from ..evaluation import Evaluation
from ..visualization import prediction_grid, write_report

logger = logging.getLogger(__name__)

NUM_PICTURES = 4  # images with predictions that TensorBoard shows per evaluation
# Receives the images of an evaluation that is outside of a training but belongs to it.
_after_training: ContextVar[EventStorage | None] = ContextVar("after_training", default=None)


def publish_evaluation(evaluation: Evaluation, output_dir: Path, *, dataset_name: str) -> None:
    """Writes the report; during training, also stores plots and predictions as images.

    Args:
        evaluation: evaluation on the dataset.
        output_dir: receives ``report.html`` and ``plots/``.
        dataset_name: name of a registered dataset.
    """
    try:
        _report(evaluation, output_dir, dataset_name)
    except Exception:
        if training_storage() is None:
            raise
        # A report is not worth ending the training for.
        logger.exception("The report of the evaluation could not be written:")


def _title(dataset_name: str) -> str:
    """Returns the name of a dataset; of custom data, only where its annotations are, in short."""
    annotations = custom_annotations(dataset_name)
    return f"{annotations.parent.name}/{annotations.name}" if annotations else dataset_name


def _report(evaluation: Evaluation, output_dir: Path, dataset_name: str) -> None:
    images = image_root(dataset_name)
    plots = write_report(evaluation, output_dir, images, title=_title(dataset_name))
    storage = _after_training.get() or training_storage()
    if storage is None:
        return
    tag = printable(dataset_name)  # TensorBoard's files cannot hold undecodable bytes of paths
    for name, png in plots.items():
        _put(storage, f"{tag}/{name}", Image.open(io.BytesIO(png)))
    if images is not None:
        layout = {"num_images": NUM_PICTURES, "columns": 1, "height": 240}
        picture = prediction_grid(evaluation.ground_truth, images, evaluation.detections, **layout)
        _put(storage, f"{tag}/predictions", picture)


@contextlib.contextmanager
def log_after_training(output_dir: Path, step: int) -> Iterator[dict]:
    """Adds an evaluation to TensorBoard's log of a training that has ended.

    Args:
        output_dir: output folder of the training.
        step: iterations of the training.

    Yields:
        A dict for the metrics of the evaluation, as an evaluator returns them.
    """
    results: dict = {}
    storage = EventStorage(step)
    token = _after_training.set(storage)
    try:
        yield results
    finally:
        _after_training.reset(token)
    if results:  # of the main process
        with storage:
            storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
            writer = TensorboardXWriter(str(output_dir))
            writer.write()
            writer.close()


def training_storage() -> EventStorage | None:
    """Returns the event storage of the training run; ``None`` outside of training."""
    try:
        return get_event_storage()
    except AssertionError:
        return None


def _put(storage: EventStorage, name: str, picture: Image.Image) -> None:
    storage.put_image(name, np.asarray(picture.convert("RGB")).transpose(2, 0, 1))
