"""Custom datasets from the command line: ``--train-data ANN.json:IMAGES``."""

import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import UserError
from .annotation_file import checked_file
from .image_paths import named_folder

SEPARATOR = ":"  # between the two paths of a flag, and of the name of the dataset


def is_custom_dataset(name: str) -> bool:
    """Whether a dataset's name is made of its paths, so that it means nothing on other machines."""
    return SEPARATOR in name


def custom_annotations(name: str) -> Path | None:
    """Returns the annotation file of a custom dataset; ``None`` for any other, or if it is gone."""
    return next((annotations for annotations, _ in _splits(name)), None)


def dataset_label(name: str) -> str:
    """Returns how messages name a dataset: by its annotation file if it is custom data."""
    annotations = custom_annotations(name)
    return f"'{annotations}'" if annotations else f"dataset '{name}'"


def _splits(flag: str) -> list[tuple[Path, Path]]:
    """Splits ``ANN.json:IMAGES`` at every colon that leaves an existing file and folder."""
    colons = (index for index, character in enumerate(flag) if character == SEPARATOR)
    pairs = (map(os.path.expanduser, (flag[:each], flag[each + 1 :])) for each in colons)
    paths = ((Path(a), named_folder(b)) for a, b in pairs if a and b)
    return [each for each in paths if not missing_path(*each)]


def missing_path(annotations: Path, images: Path) -> str:
    """Says which of an annotation file and an image folder does not exist; empty if both do."""
    if not annotations.is_file():
        return f"annotation file '{annotations}' does not exist"
    return missing_folder(images)


def missing_folder(images: Path) -> str:
    """Says that an image folder does not exist; empty if it does."""
    return "" if images.is_dir() else f"image folder '{images}' does not exist"


def parse_data_flag(flag: str) -> tuple[Path, Path]:
    """Splits ``ANN.json:IMAGES`` into its two paths, which may have colons in them.

    Raises:
        UserError: if there is no colon, one of the two paths does not exist, or there is more than
            one way to split the flag into paths that exist.
    """
    splits = _splits(flag)
    if len(splits) == 1:
        return splits[0]
    if splits:
        ways = " or ".join(f"'{annotations}' and '{images}'" for annotations, images in splits)
        raise UserError(f"'{flag}' could be {ways}: rename a file or folder")
    annotations, _, images = flag.rpartition(SEPARATOR)
    if not annotations or not images:
        raise UserError(f"'{flag}' is not of the form ANN.json:IMAGES")
    if flag.count(SEPARATOR) > 1:
        raise UserError(
            f"'{flag}' is not of the form ANN.json:IMAGES: no colon in it has an existing file "
            "before it and an existing folder after it"
        )
    raise UserError(missing_path(Path(annotations), Path(images)))


def registered_name(dataset: str) -> str:
    """Returns the name of a dataset; custom data are registered with Detectron2 in this process.

    Args:
        dataset: the name of a registered dataset, or ``ANN.json:IMAGES``.

    Raises:
        UserError: if it is neither.
    """
    if not is_custom_dataset(dataset):
        return dataset
    name = _name(*parse_data_flag(dataset))
    _register(name)
    return name


def use_custom_data(
    cfg: CfgNode, train: Sequence[str] = (), val: Sequence[str] = (), *, keep_test: bool = False
) -> None:
    """Points a config at COCO-format data, and registers its custom datasets.

    Training masks in RLE set ``INPUT.MASK_FORMAT`` to ``"bitmask"``.

    Args:
        cfg: modified in place.
        train: ``ANN.json:IMAGES`` of each dataset to train on; none keeps the config's datasets.
        val: ``ANN.json:IMAGES`` of each dataset to evaluate on; without it, a run that trains on
            custom data evaluates on nothing.
        keep_test: evaluate on the config's datasets nevertheless, because the user has named them.

    Raises:
        UserError: if a file is missing or malformed.
    """
    if train and not val and not keep_test:
        cfg.DATASETS.TEST = ()
    for split, flags in (("TEST", val), ("TRAIN", train)):
        if not flags:
            continue
        pairs = [parse_data_flag(flag) for flag in flags]
        cfg.DATASETS[split] = tuple(_name(*pair) for pair in pairs)
        formats = {checked_file(*pair).mask_format for pair in pairs}
        if split == "TRAIN" and "bitmask" in formats:
            cfg.INPUT.MASK_FORMAT = "bitmask"
    register_custom_datasets(cfg)


def register_custom_datasets(cfg: CfgNode) -> None:
    """Registers the custom datasets of a config with Detectron2, in this process.

    Datasets that are not on this machine are left out: a config also names those that the run at
    hand does not use.

    Args:
        cfg: a config from :func:`use_custom_data`.
    """
    for name in filter(is_custom_dataset, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        _register(name)


def _name(annotations: Path, images: Path) -> str:
    return f"{annotations.resolve()}{SEPARATOR}{images.resolve()}"


def _register(name: str) -> None:
    if name not in DatasetCatalog.list():
        for annotations, images in _splits(name)[:1]:
            register_coco_instances(name, {}, str(annotations), str(images))
