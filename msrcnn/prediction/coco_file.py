"""Predictions as a COCO-format file, which labelling tools can open."""

import json
from pathlib import Path

import pycocotools.mask as mask_util

from ..atomic_file import write_file
from ..class_names import name_of
from .image_prediction import Prediction


class CocoFile:
    """Collects predictions; ``write`` writes them as annotations with scores."""

    def __init__(self, class_names: list[str], rank_by: str):
        """
        Args:
            class_names: names by class index; may be empty.
            rank_by: see :meth:`Prediction.to_coco`.
        """
        self._class_names, self._rank_by = class_names, rank_by
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def add(self, path: Path, prediction: Prediction) -> None:
        """Adds the predictions of an image file."""
        height, width = prediction.pixels.shape[:2]
        image_id = len(self._images) + 1
        record = {"id": image_id, "file_name": str(path), "width": width, "height": height}
        self._images.append(record)
        for annotation in prediction.to_coco(image_id, rank_by=self._rank_by):
            rle = annotation.get("segmentation")
            if rle is not None:
                annotation["bbox"] = mask_util.toBbox(rle).tolist()
                annotation["area"] = float(mask_util.area(rle))
            else:
                annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
            number = len(self._annotations) + 1
            self._annotations.append({"id": number, "iscrowd": 0, **annotation})

    def write(self, path: Path) -> None:
        """Writes ``images``, ``annotations`` and ``categories``; category ids are class indices."""
        found = max([a["category_id"] + 1 for a in self._annotations], default=0)
        count = max(found, len(self._class_names))
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": [
                {"id": index, "name": name_of(index, self._class_names)} for index in range(count)
            ],
        }
        write_file(path, json.dumps(content))
