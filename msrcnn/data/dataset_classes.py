"""The classes of datasets, and training images whose labels are the model's class indices."""

import contextlib
import functools
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    print_instances_class_histogram,
)

from ..class_names import class_indices, in_id_order
from ..errors import UserError
from .annotation_file import read_coco
from .custom import dataset_label
from .registered import annotation_file


def dataset_classes(name: str) -> list[str]:
    """Returns the class names of a registered dataset, in the order of Detectron2's indices.

    Args:
        name: name of the dataset.

    Returns:
        The names in the dataset's metadata, or in its annotation file: Detectron2 sets the metadata
        of most datasets only when it loads them. Empty if neither has them.

    Raises:
        UserError: if the annotation file is not in COCO format.
    """
    if name not in MetadataCatalog.list():
        return []
    if names := MetadataCatalog.get(name).get("thing_classes"):
        return list(names)
    path = annotation_file(name)
    if path is None or not path.is_file():
        return []
    return list(_names_in(path, path.stat().st_mtime_ns))


@functools.cache
def _names_in(path: Path, modified: int) -> tuple[str, ...]:
    """Reads the names of the categories in an annotation file, again if it was modified."""
    content = read_coco(path)
    try:
        return tuple(in_id_order(content["categories"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not in COCO format: 'categories' must be a list of objects with 'id' and "
            "'name'"
        ) from error


def training_images(cfg: CfgNode) -> list[dict]:
    """Loads the training datasets of a config, as Detectron2's ``get_detection_dataset_dicts``.

    Args:
        cfg: a complete config.

    Returns:
        Dataset dicts. The ``category_id`` of an annotation is the index of its class in
        ``DATASETS.CLASS_NAMES``; if that is empty, the dataset's own.

    Raises:
        UserError: if a dataset has a class that is not in ``DATASETS.CLASS_NAMES``.
    """
    class_names = list(cfg.DATASETS.CLASS_NAMES)
    proposals = cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None
    images = []
    for index, name in enumerate(cfg.DATASETS.TRAIN):
        part = get_detection_dataset_dicts(
            name,
            filter_empty=False,
            proposal_files=proposals and [proposals[index]],
            check_consistency=False,  # of the order of the classes, which may differ
        )
        images += _with_model_classes(part, name, class_names)
    if "annotations" in images[0]:
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            images = filter_images_with_only_crowd_annotations(images)
        if cfg.MODEL.KEYPOINT_ON:
            number = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
            images = filter_images_with_few_keypoints(images, number) if number else images
        if names := class_names or dataset_classes(cfg.DATASETS.TRAIN[0]):
            # v0.6 uses np.int, which NumPy has removed.
            with contextlib.suppress(AttributeError):
                print_instances_class_histogram(images, names)
    if not images:
        raise UserError(
            f"no image of {', '.join(map(dataset_label, cfg.DATASETS.TRAIN))} has an instance to "
            "train on"
        )
    return images


def _with_model_classes(images: list[dict], name: str, class_names: list[str]) -> list[dict]:
    """Replaces the class indices of a dataset, as Detectron2 loads it, by those of the model."""
    names = dataset_classes(name)
    if not class_names or not names or names == class_names:
        return images
    indices = class_indices(names, class_names)
    if None in indices:
        raise UserError(
            f"{dataset_label(name)} has classes that are not in DATASETS.CLASS_NAMES of the config"
        )
    return [{**image, "annotations": _relabeled(image, indices)} for image in images]


def _relabeled(image: dict, indices: list[int]) -> list[dict]:
    # Copies: a registered function may return the same objects each time.
    return [{**each, "category_id": indices[each["category_id"]]} for each in image["annotations"]]
