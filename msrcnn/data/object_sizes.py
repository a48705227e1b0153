"""The number and the size of objects, to choose ``--size`` and the limit of detections."""

from collections import Counter

import numpy as np

WIDE_ENOUGH = 16  # pixels, at the size of training: the advice of docs/own_data.md
SMALL = 5  # percent of the objects that may be smaller


def size_advice(content: dict, detections: int) -> list[str]:
    """Returns lines about the objects of a dataset; none if it has no objects.

    An object's width is the shorter side of its box.

    Args:
        content: the content of a COCO-format file without errors.
        detections: the most detections that a model finds in an image by default.
    """
    short_side = {each["id"]: min(each["width"], each["height"]) for each in content["images"]}
    objects = [each for each in content.get("annotations", []) if not each.get("iscrowd", 0)]
    if not objects:
        return []
    widths = np.array([min(each["bbox"][2:]) for each in objects], dtype=float)
    share = widths / [short_side[each["image_id"]] for each in objects]
    most = max(Counter(each["image_id"] for each in objects).values())
    half, small = np.percentile(widths, [50, SMALL])
    lines = [
        f"objects: at most {most} in an image; half are at least {half:.0f} pixels wide, "
        f"{100 - SMALL}% at least {small:.0f}"
    ]
    half, small = (WIDE_ENOUGH / max(each, 1e-9) for each in np.percentile(share, [50, SMALL]))
    if small < 1e5:
        lines.append(
            f"training at --size {np.ceil(half):.0f} makes half of them at least {WIDE_ENOUGH} "
            f"pixels wide, --size {np.ceil(small):.0f} {100 - SMALL}%"
        )
    if most > detections:
        lines.append(
            f"an image has more than {detections} objects: train with TEST.DETECTIONS_PER_IMAGE "
            f"{most}, or only {detections} of them can be found"
        )
    return lines
