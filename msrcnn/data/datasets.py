"""Registers the synthetic shapes dataset and the nuclei dataset with Detectron2."""

import os
from pathlib import Path

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances


def datasets_root() -> Path:
    """Returns ``$DETECTRON2_DATASETS``, or ``datasets`` if it is not set, as in Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_datasets() -> None:
    """Registers ``shapes_{train,val}`` and ``nuclei_{train,val}`` under :func:`datasets_root`."""
    root = datasets_root()
    for split in ("train", "val"):
        shapes = root / "shapes" / "annotations" / f"instances_{split}.json"
        _register(f"shapes_{split}", shapes, root / "shapes" / split)
        nuclei = root / "nuclei"
        _register(f"nuclei_{split}", nuclei / f"{split}.json", nuclei / split)


def _register(name: str, annotations: Path, images: Path) -> None:
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, str(annotations), str(images))
