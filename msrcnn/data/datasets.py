"""Registers the datasets that the configs name, except COCO, with Detectron2."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

# Number of images. Nothing is chosen on those of "test", which the evidence is measured on.
SHAPES_SPLITS = {"train": 1600, "val": 200, "test": 400}


def datasets_root() -> Path:
    """Returns ``$DETECTRON2_DATASETS``, or ``datasets`` if it is not set, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_datasets() -> None:
    """Registers the splits of all datasets under :func:`datasets_root`."""
    root = datasets_root()
    for split in SHAPES_SPLITS:
        shapes = root / "shapes" / "annotations" / f"instances_{split}.json"
        _register(f"shapes_{split}", shapes, root / "shapes" / split)
    for split in ("train", "val"):
        for name in ("nuclei", "ccp", "animals"):
            _register(f"{name}_{split}", root / name / f"{split}.json", root / name / split)


def _register(name: str, annotations: Path, images: Path) -> None:
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, str(annotations), str(images))
