"""Own data in one flag: ``--train-data ANN.json:IMAGES``."""

import difflib
import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from ..errors import UserError
from .coco_format import check_coco, mask_format

OWN_DATA = ":"  # in the name of a dataset given by a flag, which is its two paths


def is_own_data(name: str) -> bool:
    """Whether a dataset was given by a flag, so that its name means nothing elsewhere."""
    return OWN_DATA in name


def parse_data_flag(flag: str) -> tuple[Path, Path]:
    """Split ``ANN.json:IMAGES`` into its two paths.

    Raises:
        UserError: if it has no colon, or one of the two does not exist.
    """
    annotations, colon, images = flag.rpartition(":")
    if not colon or not annotations or not images:
        raise UserError(f"'{flag}' is not of the form ANN.json:IMAGES")
    if not Path(annotations).is_file():
        raise UserError(f"annotation file '{annotations}' does not exist")
    if not Path(images).is_dir():
        raise UserError(f"image folder '{images}' does not exist")
    return Path(annotations), Path(images)


@dataclass(frozen=True)
class _Summary:
    """What a config takes from a COCO-format file.

    Attributes:
        categories: names by id.
        mask_format: Detectron2's ``INPUT.MASK_FORMAT``.
    """

    categories: dict[int, str]
    mask_format: str


@functools.cache
def _checked(annotations: Path, images: Path, modified: int) -> _Summary:
    """Read a COCO-format file and check it, once: a sweep asks for the same one many times.

    Args:
        annotations: the file.
        images: the folder.
        modified: when the file was, so that another content is read again.

    Raises:
        UserError: naming the file, the first bad record and its mend.
    """
    try:
        content = json.loads(annotations.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{annotations} is not JSON: {error}") from error
    problems = check_coco(content, images)
    if problems:
        more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{annotations}: {problems[0]}{more}")
    categories = {category["id"]: category["name"] for category in content["categories"]}
    return _Summary(categories, mask_format(content))


def use_data(cfg: CfgNode, train: str | None = None, val: str | None = None) -> None:
    """Point a config at COCO-format data: datasets, number of classes, mask format.

    Args:
        cfg: changed in place.
        train: ``ANN.json:IMAGES`` to train on; ``None`` leaves the config's own.
        val: ``ANN.json:IMAGES`` to evaluate on; without one, a run that trains on own data
            evaluates on nothing.

    Raises:
        UserError: if a file is missing or malformed, or the two have different categories.
    """
    found = {}
    for split, flag in (("train", train), ("val", val)):
        if flag is None:
            continue
        annotations, images = parse_data_flag(flag)
        found[split] = _checked(annotations, images, annotations.stat().st_mtime_ns)
        # A dataset's name is its file: another file is another dataset in Detectron2's catalog.
        name = f"{annotations.resolve()}{OWN_DATA}{images.resolve()}"
        if name not in DatasetCatalog.list():
            register_coco_instances(name, {}, str(annotations), str(images))
            MetadataCatalog.get(name).thing_classes = _class_names(found[split].categories)
        cfg.DATASETS["TRAIN" if split == "train" else "TEST"] = (name,)
    if not found:
        return
    if train is not None and val is None:
        cfg.DATASETS.TEST = ()
    classes = {split: each.categories for split, each in found.items()}
    if len(classes) == 2 and classes["train"] != classes["val"]:
        raise UserError(
            "training and validation data have different categories: "
            f"{sorted(set(classes['train'].items()) ^ set(classes['val'].items()))} are in one "
            "only; give both files the same 'categories'"
        )
    first = next(iter(found.values()))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(first.categories)
    cfg.DATASETS.CLASS_NAMES = tuple(_class_names(first.categories))
    cfg.INPUT.MASK_FORMAT = first.mask_format


def check_registered(names: Iterable[str]) -> None:
    """Check that registered datasets are on disk.

    Args:
        names: of the datasets.

    Raises:
        UserError: for an unknown name, or a missing file or folder, with what to do.
    """
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known)
            raise UserError(f"no dataset '{name}' is registered; nearest: {', '.join(near)}")
        metadata = MetadataCatalog.get(name)
        for path in (metadata.get("json_file"), metadata.get("image_root")):
            if path is not None and "://" not in path and not Path(path).exists():
                raise UserError(
                    f"dataset '{name}': '{path}' does not exist. Set DETECTRON2_DATASETS to the "
                    "folder of datasets, or make the dataset: datasets/README.md says how"
                )


def _class_names(categories: dict[int, str]) -> list[str]:
    """Class names in the order of their ids, the order of Detectron2's class indices."""
    return [name for _, name in sorted(categories.items())]
