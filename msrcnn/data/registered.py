"""Checks the datasets that a config names, by the same rules as annotation files."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ..errors import UserError
from .annotation_file import CheckedData, checked_file, facts_of, read_coco
from .availability import check_datasets
from .dataset_dicts import coco_content


def check_data(cfg: CfgNode, splits: Sequence[str]) -> None:
    """Checks the datasets of a config, each once per process.

    Args:
        cfg: a config whose custom datasets are registered.
        splits: ``"TRAIN"``, ``"TEST"``, both or none.

    Raises:
        UserError: if a dataset does not exist, or naming the first of its problems.
    """
    for split in splits:
        if split == "TRAIN" and not cfg.DATASETS.TRAIN:
            raise UserError("DATASETS.TRAIN is empty: give --train-data ANN.json:IMAGES")
        check_datasets(cfg.DATASETS[split])
        for name in cfg.DATASETS[split]:
            checked = checked_dataset(name)
            if split == "TRAIN":
                checked.for_training(masks=cfg.MODEL.MASK_ON)
                needed = checked.mask_format
                if cfg.MODEL.MASK_ON and (needed, cfg.INPUT.MASK_FORMAT) == ("bitmask", "polygon"):
                    raise UserError(
                        f"dataset '{name}' has RLE masks: set INPUT.MASK_FORMAT bitmask"
                    )
            root = image_root(name)
            if root is not None:
                checked.with_images(root, cfg.INPUT.VALUE_RANGE)


def checked_dataset(name: str) -> CheckedData:
    """Checks a registered dataset without its images; once, unless its file changes.

    Raises:
        UserError: naming its first problem.
    """
    path = annotation_file(name)
    if path is None:
        return _checked_function(name, DatasetCatalog[name])
    return checked_file(path, image_root(name) or Path("IMAGES"))


def dataset_content(name: str) -> dict:
    """Returns a registered dataset in COCO's format.

    A dataset that is registered as a Python function is converted, with class indices as ids of
    categories.
    """
    path = annotation_file(name)
    return read_coco(path) if path else _converted(name)


def image_root(name: str) -> Path | None:
    """Returns the image folder of a registered dataset, or ``None`` if it is not on a disk."""
    folder = MetadataCatalog.get(name).get("image_root", "")
    if "://" in folder:
        return None
    return Path(folder).absolute() if folder else Path()


def annotation_file(name: str) -> Path | None:
    """Returns the annotation file of a registered dataset; ``None`` if it is a Python function."""
    path = MetadataCatalog.get(name).get("json_file")
    return None if path is None else Path(PathManager.get_local_path(path))


@functools.cache
def _checked_function(name: str, function: Callable) -> CheckedData:
    return CheckedData(facts_of(_converted(name)), f"dataset '{name}', annotations counted from 1")


def _converted(name: str) -> dict:
    class_names = MetadataCatalog.get(name).get("thing_classes")
    if class_names is None:
        raise UserError(
            f"dataset '{name}' has neither an annotation file nor class names: set them, as in "
            f"MetadataCatalog.get('{name}').thing_classes = ['cat', 'dog']"
        )
    return coco_content(DatasetCatalog.get(name), class_names, name)
