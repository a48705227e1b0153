"""Custom datasets from the command line: ``--train-data ANN.json:IMAGES``."""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import UserError
from .annotation_file import Summary, checked_file

SEPARATOR = ":"  # between the two paths of a flag, and of the name of the dataset


def is_custom_dataset(name: str) -> bool:
    """Whether a dataset's name is made of its paths, so that it means nothing on other machines."""
    return SEPARATOR in name


def parse_data_flag(flag: str) -> tuple[Path, Path]:
    """Splits ``ANN.json:IMAGES`` into its two paths.

    Raises:
        UserError: if there is no colon, or one of the two paths does not exist.
    """
    annotations, colon, images = flag.rpartition(SEPARATOR)
    if not colon or not annotations or not images:
        raise UserError(f"'{flag}' is not of the form ANN.json:IMAGES")
    if not Path(annotations).is_file():
        raise UserError(f"annotation file '{annotations}' does not exist")
    if not Path(images).is_dir():
        raise UserError(f"image folder '{images}' does not exist")
    return Path(annotations), Path(images)


def use_custom_data(cfg: CfgNode, train: str | None = None, val: str | None = None) -> None:
    """Points a config at COCO-format data: datasets, number of classes and mask format.

    Args:
        cfg: modified in place.
        train: ``ANN.json:IMAGES`` to train on; ``None`` keeps the config's datasets.
        val: ``ANN.json:IMAGES`` to evaluate on; without it, a run that trains on custom data
            evaluates on nothing.

    Raises:
        UserError: if a file is missing or malformed, or the two have different categories.
    """
    found: dict[str, Summary] = {}
    for split, flag in (("TRAIN", train), ("TEST", val)):
        if flag is not None:
            annotations, images = parse_data_flag(flag)
            found[split] = checked_file(annotations, images).summary
            cfg.DATASETS[split] = (f"{annotations.resolve()}{SEPARATOR}{images.resolve()}",)
    if not found:
        return
    if "TEST" not in found:
        cfg.DATASETS.TEST = ()
    first, *others = found.values()
    for other in others:
        _check_same_categories(first.categories, other.categories)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(first.categories)
    cfg.DATASETS.CLASS_NAMES = tuple(first.class_names)
    cfg.INPUT.MASK_FORMAT = first.mask_format
    register_custom_datasets(cfg)


def _check_same_categories(train: dict[int, str], val: dict[int, str]) -> None:
    if train != val:
        raise UserError(
            "training and validation data have different categories: "
            f"{sorted(set(train.items()) ^ set(val.items()))} are in one only; give both files "
            "the same 'categories'"
        )


def register_custom_datasets(cfg: CfgNode) -> None:
    """Registers the custom datasets of a config with Detectron2, in this process.

    Args:
        cfg: changed by :func:`use_custom_data`.
    """
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if is_custom_dataset(name) and name not in DatasetCatalog.list():
            annotations, _, images = name.rpartition(SEPARATOR)
            register_coco_instances(name, {}, annotations, images)
            MetadataCatalog.get(name).thing_classes = list(cfg.DATASETS.CLASS_NAMES)
