"""Numbers the images and annotations of a dataset in COCO format, and writes them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..atomic_file import write_file


class CocoRecords:
    """Images with annotations, whose ids start from 1 in the order in which they are added.

    Attributes:
        content: the dataset in COCO format.
    """

    def __init__(self, categories: Sequence[Mapping]):
        """
        Args:
            categories: COCO categories, with ids.
        """
        self.content = {"images": [], "annotations": [], "categories": list(categories)}

    def add(self, file_name: str, width: int, height: int, annotations: Iterable[Mapping]) -> None:
        """Adds an image and its COCO annotations, which need no ids.

        Args:
            file_name: path of the image in the image folder.
            width, height: size of the image in pixels.
            annotations: the annotations of this image.
        """
        images, known = self.content["images"], self.content["annotations"]
        image_id = len(images) + 1
        images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for record in annotations:
            known.append({"id": len(known) + 1, "image_id": image_id, **record})

    def write(self, path: Path, **entries) -> None:
        """Writes the annotation file.

        Args:
            path: the file to write; its folder is created if missing.
            **entries: further entries of the file, which come first.
        """
        write_file(path, json.dumps({**entries, **self.content}))

    def __str__(self) -> str:
        images, annotations = self.content["images"], self.content["annotations"]
        return f"{len(images)} images, {len(annotations)} instances"
