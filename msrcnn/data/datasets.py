"""Datasets by name: the made one beside Detectron2's builtin COCO."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances


def datasets_root() -> Path:
    """The folder of datasets: ``$DETECTRON2_DATASETS``, as for Detectron2, or ``datasets``."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_shapes() -> None:
    """Register ``shapes_train`` and ``shapes_val`` below the folder of datasets."""
    root = datasets_root() / "shapes"
    for split in ("train", "val"):
        name = f"shapes_{split}"
        if name not in DatasetCatalog.list():
            annotations = root / "annotations" / f"instances_{split}.json"
            register_coco_instances(name, {}, str(annotations), str(root / split))
