#!/usr/bin/env python
"""Convert the nuclei images of the 2018 Data Science Bowl to COCO format."""

import argparse
import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from msrcnn.commands.arguments import add_dataset_folder
from msrcnn.data.coco_records import CocoRecords
from msrcnn.error_report import report_errors
from msrcnn.errors import UserError, first_of

# The images of each split, by the first 16 characters of their ids. Images that the experiments
# of this project do not use are in neither.
SPLITS = json.loads((Path(__file__).parent / "nuclei_split.json").read_text())


def find_images(source: Path) -> dict[str, Path]:
    """Returns the folder of each image of both splits, by the first characters of its id.

    Raises:
        UserError: if an image is missing, with its number and the first ids.
    """
    folders = {folder.name[:16]: folder for folder in source.glob("*") if folder.is_dir()}
    expected = [name for names in SPLITS.values() for name in names]
    missing = [name for name in expected if name not in folders]
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(expected)} images are missing "
            f"({first_of(missing, 3)}); pass the extracted stage1_train folder, with a folder "
            "for each image"
        )
    return {name: folders[name] for name in expected}


def convert_image(folder: Path) -> tuple[Image.Image, list[dict]]:
    """Reads one image and its masks.

    Args:
        folder: ``folder/images`` holds the image, and ``folder/masks`` one image per nucleus,
            of the same size, with values above 0 inside the nucleus.

    Returns:
        The RGB image, and its COCO annotations without ids, in the order of the mask files. Empty
        masks are left out.

    Raises:
        UserError: if there is not exactly one image, a file cannot be read, or a mask has another
            size than the image.
    """
    images = sorted((folder / "images").glob("*.png"))
    if len(images) != 1:
        raise UserError(f"{folder / 'images'} has {len(images)} PNG files instead of 1")
    image = _read(images[0], "RGB")
    annotations = []
    for path in sorted((folder / "masks").glob("*.png")):
        mask = np.asarray(_read(path, "L")) > 0
        if mask.shape != (image.height, image.width):
            raise UserError(f"{path} has another size than {images[0]}")
        if mask.any():
            annotations.append(_annotation(mask))
    return image, annotations


def _read(path: Path, mode: str) -> Image.Image:
    try:
        return Image.open(path).convert(mode)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}); extract the archive again") from error


def _annotation(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "category_id": 1,
        "iscrowd": 0,
        "area": float(mask_util.area(rle)),
        "bbox": mask_util.toBbox(rle).tolist(),
        "segmentation": {"size": list(mask.shape), "counts": rle["counts"].decode()},
    }


def convert_split(folders: dict[str, Path], split: str, output: Path) -> str:
    """Writes ``output/split/*.jpg`` and ``output/split.json``.

    Returns:
        One line with the number of images and instances.
    """
    (output / split).mkdir(parents=True, exist_ok=True)
    records = CocoRecords([{"id": 1, "name": "nucleus"}])
    for name in SPLITS[split]:
        image, annotations = convert_image(folders[name])
        image.save(output / split / f"{name}.jpg", quality=95)
        records.add(f"{name}.jpg", image.width, image.height, annotations)
    records.write(output / f"{split}.json")
    return f"{split}: {records}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the extracted stage1_train folder")
    add_dataset_folder(parser, "nuclei")
    args = parser.parse_args()
    folders = find_images(args.source)
    for split in SPLITS:
        print(f"Complete: {convert_split(folders, split, args.output)}")


if __name__ == "__main__":
    report_errors(main)
