#!/usr/bin/env python
"""Convert the public photos of endangered animals to the dataset of our experiments."""

import argparse
from collections import defaultdict
from pathlib import Path

import pycocotools.mask as mask_util
from PIL import Image

from msrcnn.commands.arguments import add_dataset_folder
from msrcnn.data.annotation_file import checked_file, read_coco
from msrcnn.data.coco_records import CocoRecords
from msrcnn.data.mask_rle import as_rle
from msrcnn.error_report import report_errors
from msrcnn.errors import UserError

SHORT_SIDE = 320  # pixels; smaller photos are not enlarged
# The folders of the public dataset that form each split, each with the letter of its file names.
FOLDERS = {"train": {"train": "t"}, "val": {"valid": "v", "test": "t"}}
# Photos of the folder "train" that the experiments of this project do not use, by id.
UNUSED = {"train": (216, 370)}


def scaled_size(width: int, height: int) -> tuple[int, int]:
    """Returns the size of a photo in our dataset, in pixels."""
    scale = min(1, SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


def convert_annotation(annotation: dict, old: tuple[int, int], new: tuple[int, int]) -> dict:
    """Scales the polygons of an annotation.

    Args:
        annotation: a COCO annotation with polygons.
        old: (width, height) of its photo.
        new: (width, height) of the scaled photo.

    Returns:
        The annotation without ids; box and area are those of the mask of the scaled polygons.
    """
    polygons = [
        [round(value * (new[i % 2] / old[i % 2]), 2) for i, value in enumerate(polygon)]
        for polygon in annotation["segmentation"]
    ]
    mask = as_rle(polygons, new[1], new[0])
    return {
        "category_id": annotation["category_id"],
        "iscrowd": 0,
        "bbox": mask_util.toBbox(mask).tolist(),
        "area": float(mask_util.area(mask)),
        "segmentation": polygons,
    }


def read_folder(folder: Path) -> dict:
    """Reads the annotation file of one folder of the public dataset.

    Raises:
        UserError: if it is missing or invalid.
    """
    file = folder / "_annotations.coco.json"
    checked_file(file, folder)
    return read_coco(file)


def convert_split(source: Path, split: str, output: Path) -> str:
    """Writes ``output/split/*.jpg`` and ``output/split.json``.

    Args:
        source: folder of the public dataset.
        split: "train" or "val".
        output: folder of our dataset.

    Returns:
        One line with the number of images and instances.

    Raises:
        UserError: if a file is missing or cannot be read, or a photo has another size than its
            record.
    """
    contents = {folder: read_folder(source / folder) for folder in FOLDERS[split]}
    (output / split).mkdir(parents=True, exist_ok=True)
    records = CocoRecords(next(iter(contents.values()))["categories"])
    for folder, content in contents.items():
        annotations = defaultdict(list)
        for annotation in content["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            if image["id"] in UNUSED.get(folder, ()):
                continue
            old = image["width"], image["height"]
            new = scaled_size(*old)
            photo = _read(source / folder / image["file_name"], old)
            # The export added ".rf." and a hash to the name.
            stem = image["file_name"].partition(".rf.")[0]
            name = f"{stem}_{FOLDERS[split][folder]}{image['id']}.jpg"
            photo.resize(new, Image.Resampling.LANCZOS).save(output / split / name, quality=90)
            scaled = [convert_annotation(each, old, new) for each in annotations[image["id"]]]
            records.add(name, *new, scaled)
    records.write(output / f"{split}.json")
    return f"{split}: {records}"


def _read(path: Path, size: tuple[int, int]) -> Image.Image:
    try:
        photo = Image.open(path).convert("RGB")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); get the dataset again") from error
    if photo.size != size:
        raise UserError(
            f"{path} has {photo.size} pixels instead of {size}, as its annotation file says"
        )
    return photo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder dataset of its repository")
    add_dataset_folder(parser, "animals")
    args = parser.parse_args()
    for split in FOLDERS:
        print(f"Complete: {convert_split(args.source, split, args.output)}")


if __name__ == "__main__":
    report_errors(main)
