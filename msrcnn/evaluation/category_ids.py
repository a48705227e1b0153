"""The category ids of a dataset by class of a model; the two are matched by name."""

import logging
from collections.abc import Sequence

import numpy as np
from detectron2.data import MetadataCatalog
from pycocotools.coco import COCO

from ..class_names import class_indices, in_id_order, listed, shortened
from ..errors import UserError

logger = logging.getLogger(__name__)

ABSENT = np.iinfo(np.int64).min  # instead of the category id of a class that the dataset lacks


def category_ids(
    ground_truth: COCO, dataset_name: str, class_names: Sequence[str] = ()
) -> np.ndarray:
    """Returns the category id of each class of a model.

    Args:
        ground_truth: the dataset.
        dataset_name: name of the dataset. Class names in its metadata take precedence over those in
            the annotation file, as in Detectron2: they differ for a category of LVIS.
        class_names: names of the model's classes by index; empty if unknown. Then the classes are
            the categories in ascending order of their ids, as Detectron2 assigns them.

    Returns:
        Int64 array by class index. A class that the dataset does not have is ``ABSENT``, and a log
        message says so.

    Raises:
        UserError: if the dataset has categories that the model does not have.
    """
    ids = np.array(sorted(ground_truth.cats), dtype=np.int64)
    if not class_names:
        return ids
    names = MetadataCatalog.get(dataset_name).get("thing_classes")
    if names is None or len(names) != len(ids):
        names = in_id_order(ground_truth.cats.values())
    found = class_indices(names, class_names)
    indices = [index for index in found if index is not None]
    if len(indices) < len(found):
        raise UserError(
            f"dataset '{dataset_name}' has {listed(names)}, but the model predicts "
            f"{listed(class_names)}: use a model trained on these classes"
        )
    by_class = np.full(len(class_names), ABSENT)
    by_class[indices] = ids
    absent = [name for name, each in zip(class_names, by_class) if each == ABSENT]
    if absent:
        logger.info(
            "Dataset '%s' has %d of the model's %d classes; detections of the others (%s) are "
            "ignored.",
            dataset_name,
            len(ids),
            len(class_names),
            shortened(absent),
        )
    return by_class
