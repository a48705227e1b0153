"""Datasets by name: the made one and nuclei, beside Detectron2's builtin COCO."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances


def datasets_root() -> Path:
    """The folder of datasets: ``$DETECTRON2_DATASETS``, as for Detectron2, or ``datasets``."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_datasets() -> None:
    """Register ``shapes_{train,val}`` and ``nuclei_{train,val}`` below the folder of datasets."""
    root = datasets_root()
    for split in ("train", "val"):
        shapes = root / "shapes" / "annotations" / f"instances_{split}.json"
        _register(f"shapes_{split}", shapes, root / "shapes" / split)
        nuclei = root / "nuclei"
        _register(f"nuclei_{split}", nuclei / f"{split}.json", nuclei / split)


def _register(name: str, annotations: Path, images: Path) -> None:
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, str(annotations), str(images))
