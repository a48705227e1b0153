"""Rules about the boxes and masks of COCO-format files: where they are, and how they fit."""

from collections.abc import Iterator

import numpy as np

from ..escaping import shown
from .finding import Finding
from .mask_extents import MaskExtents, mask_extents

NEARLY_ALL = 0.8  # share of the annotations from which a mistake is systematic
FAR = 100  # image sides
LEAVES = (2.0, 0.02)  # pixels, and share of the side, that a mask may leave its image by
MIN_IOU = 0.5  # of a box with the box around the mask
MAX_FILLED = 2  # times the box around a mask, which its area may be: polygons may overlap


def mask_findings(content: dict) -> Iterator[Finding]:
    """Boxes and masks lie in their images, agree with each other, and are not empty."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    annotations = [a for a in content.get("annotations", []) if a["image_id"] in sizes]
    if not annotations:
        return
    extents = mask_extents(annotations, sizes)
    if extents.damaged:
        yield Finding(True, list(extents.damaged.values()))
        return
    with np.errstate(all="ignore"):  # coordinates may be far outside
        table = _Table(annotations, sizes, extents)
        systematic = table.systematic()
    if systematic:
        yield Finding(True, [systematic])
        return
    yield Finding(True, table.name(table.far, "has coordinates far outside its image{size}"))
    yield Finding(True, table.name(table.outside, "its {what} lies outside its image{size}"))
    yield Finding(True, table.name(extents.empty_rle, "its RLE mask is empty"))
    area = (
        "area {area} does not fit its {what}, which is in {mask}; leave it out, and evaluation "
        "computes it"
    )
    yield Finding(True, table.name(table.area_is_impossible, area))
    yield Finding(False, table.name(table.area_is_wrong & ~table.area_is_impossible, area))
    yield Finding(False, table.name(extents.flat, "a polygon of its mask has no area"))
    yield Finding(False, table.name(table.leaves, "its {what} leaves its image{size}"))
    yield Finding(
        False, table.name(~table.sized, "bbox {bbox} must have a width and height above 0")
    )
    yield Finding(
        False, table.name(table.disagrees, "bbox {bbox} does not fit its mask, which is in {mask}")
    )


class _Table:
    """Boxes, extents of masks and sizes of images as arrays, with a row for each annotation."""

    def __init__(self, annotations: list[dict], sizes: dict, extents: MaskExtents):
        self._annotations = annotations
        self._image = np.array([sizes[each["image_id"]] for each in annotations], dtype=float)
        self._bbox = np.array([each["bbox"] for each in annotations], dtype=float)
        self._mask = mask = extents.boxes
        area = np.array([each.get("area", np.nan) for each in annotations], dtype=float)
        xyxy = np.concatenate([self._bbox[:, :2], self._bbox[:, :2] + self._bbox[:, 2:]], axis=1)
        reach = np.maximum(np.abs(mask), np.abs(xyxy)).max(axis=1)
        self.far = reach > FAR * self._image.max(axis=1)
        self._empty = empty = extents.empty_rle
        inside = lie_inside(mask, self._image)
        self.outside = ~inside & ~empty
        slack = np.maximum(LEAVES[0], LEAVES[1] * self._image)
        beyond = (mask[:, 2:] > self._image + slack) | (mask[:, :2] < -slack)
        self.leaves = beyond.any(axis=1) & inside & ~empty
        self.sized = (self._bbox[:, 2:] > 0).all(axis=1)
        self._comparable = self.sized & ~empty & ~extents.flat
        unknown = np.isnan(area) | (area == 0) & extents.flat | empty
        self.area_is_wrong = ~unknown & ~area_fits(area, mask)
        # AP ignores these, or takes them for large.
        self.area_is_impossible = self.area_is_wrong & (
            (area < 0) | (area > self._image.prod(axis=1))
        )
        self.disagrees = self._comparable & (box_iou(xyxy, mask) < MIN_IOU)

    def systematic(self) -> str | None:
        """Returns what is wrong with nearly all annotations, or ``None``."""
        image, mask, bbox = self._image, self._mask, self._bbox
        if nearly_all(are_fractions(mask, image) & ~self._empty):
            return (
                "coordinates are between 0 and 1, as if they were fractions of the image; "
                "multiply them by width and height"
            )
        if nearly_all(self.outside | self.leaves):
            scale = np.median((mask[:, 2:] / image).max(axis=1))
            return (
                f"{(self.outside | self.leaves).sum()} of {len(mask)} annotations leave their "
                f"image, up to {scale:.3g} times its size: were they made for larger images? "
                "Rescale them, or use the original images"
            )
        if nearly_all(~self.sized):
            return (
                f"bbox {shown(self._annotations[0]['bbox'])} of annotation "
                f"{self._annotations[0]['id']}, and nearly all others, must be [x, y, width, "
                "height] with a width and height above 0"
            )
        if nearly_all(self.disagrees):
            corners = nearly_all(box_iou(bbox, mask) >= MIN_IOU)
            reason = (
                "they are [x0, y0, x1, y1]; COCO's are [x, y, width, height]"
                if corners
                else "compute them again from the masks"
            )
            return (
                f"bbox of {self.disagrees.sum()} of {len(mask)} annotations do not fit their "
                f"masks: {reason}"
            )
        return None

    def name(self, rows: np.ndarray, text: str) -> list[str]:
        """Returns a message for each of the rows."""
        messages = []
        for row in np.flatnonzero(rows).tolist():
            each = self._annotations[row]
            width, height = self._image[row].astype(int).tolist()
            filled = text.format(
                size=f" {each['image_id']} ({width} x {height})",
                bbox=shown(each["bbox"]),
                area=shown(each.get("area")),
                what="mask" if each.get("segmentation") else "box",
                mask=[round(value, 1) for value in self._mask[row].tolist()],
            )
            messages.append(f"annotation {each['id']}: {filled}")
        return messages


def are_fractions(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Whether coordinates (N, 4) seem to be fractions of images of the given sizes (N, 2)."""
    return (boxes.max(axis=1) <= 1) & (images.min(axis=1) > 2)


def lie_inside(boxes: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Whether a part of each box (N, 4) is inside its image, of the given sizes (N, 2)."""
    return (boxes[:, :2] < images).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)


def area_fits(areas: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether areas (N,) can be those of the masks that the boxes (N, 4) are around; NaN cannot.

    An annotated area need not be that of the pixels: in COCO it is that of the polygons, and other
    programs write that of the box.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0) + 2  # with the pixels that the outline cuts
    return (areas > 0) & (areas <= MAX_FILLED * sides.prod(axis=1))


def nearly_all(rows: np.ndarray) -> bool:
    """Whether so many rows are true that a mistake is systematic."""
    return bool(len(rows) and rows.mean() >= NEARLY_ALL)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes (x0, y0, x1, y1), row by row."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    overlap = sides.clip(min=0).prod(axis=1)
    areas = [(box[:, 2:] - box[:, :2]).clip(min=0).prod(axis=1) for box in (a, b)]
    return overlap / np.maximum(areas[0] + areas[1] - overlap, 1e-9)
