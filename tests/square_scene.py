"""A dataset of squares in two images, with one detection of each kind, whose errors are known."""

import numpy as np
import pycocotools.mask as mask_util
from stand_ins import index

from msrcnn.evaluation import Detections

SIZE = 100  # of an image in pixels
CAT, DOG, COW = 1, 2, 3


def square(x: int, y: int, side: int = 20) -> dict:
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
    mask[y : y + side, x : x + side] = 1
    return mask_util.encode(mask)


def annotation(number: int, category_id: int, x: int, y: int, side: int = 20, crowd: int = 0):
    rle = square(x, y, side)
    return {
        "id": number,
        "image_id": 1,
        "category_id": category_id,
        "bbox": [x, y, side, side],
        "area": side * side,
        "iscrowd": crowd,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
    }


def ground_truth(**of_image):
    """Returns the dataset; keywords are added to the records of images."""
    names = {CAT: "cat", DOG: "dog", COW: "cow"}
    return index(
        {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": SIZE, "height": SIZE, **of_image}
                for i in (1, 2)
            ],
            "categories": [{"id": i, "name": name} for i, name in names.items()],
            "annotations": [
                annotation(1, CAT, 0, 0),
                annotation(2, DOG, 30, 0),
                annotation(3, CAT, 60, 0),
                annotation(4, DOG, 0, 60, 30),  # missed
                annotation(5, COW, 60, 60, 40, crowd=1),
            ],
        }
    )


# x, y, category, image, box score
FOUND = [
    (0, 0, CAT, 1, 0.9),  # right
    (2, 0, CAT, 1, 0.85),  # duplicate
    (30, 0, CAT, 1, 0.8),  # a dog taken for a cat
    (70, 0, CAT, 1, 0.7),  # half beside its instance: poor overlap
    (70, 70, COW, 1, 0.95),  # on the crowd of its class: counts as nothing
    (50, 50, CAT, 2, 0.6),  # on background
    (10, 50, DOG, 2, 0.3),  # on background, with a low score
]


def detections(masks: bool = True) -> Detections:
    x, y, category_id, image_id, score = map(np.array, zip(*FOUND))
    score = score.astype(np.float32)
    scores = {"maskiou": np.full(len(x), 0.5, np.float32), "mask_score": score / 2}
    sides = np.full_like(x, 20)
    return Detections(
        images=np.array([1, 2]),
        image_id=image_id,
        category_id=category_id,
        bbox=np.stack([x, y, sides, sides], axis=1).astype(np.float32),
        score=score,
        **(scores if masks else {}),
        segmentation=[square(*corner) for corner in zip(x, y)] if masks else None,
    )
