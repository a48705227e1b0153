"""Generates the synthetic shapes dataset: textured shapes in COCO format, from a seed.

The dataset is small enough to train on a CPU, and hard enough that predicted masks vary in quality:
shapes occlude each other, are cut off by the image border, and have thin arms and holes. Each class
has its own range of hues, which overlaps with those of the neighboring classes. The annotations
cover the cases found in COCO: multi-part polygons, compressed RLE (shapes with a hole), crowd
regions in uncompressed RLE, and images without annotations.
"""

import colorsys
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image
from shapely import affinity
from shapely.geometry import MultiPolygon, Point, Polygon, box
from shapely.ops import unary_union

from .coco_records import CocoRecords
from .mask_rle import as_rle

CATEGORIES = ("disc", "box", "triangle", "star", "ring", "cross")
SIZES = ((144, 120), (120, 144), (128, 128))  # width, height
MIN_VISIBLE_AREA = 40  # pixels; less visible shapes are drawn but not annotated
MIN_VISIBLE_FRACTION = 0.3
HUE_SPREAD = 0.05  # standard deviation; neighboring classes are 1/6 apart
CROWD_PROBABILITY = 0.06
EMPTY_PROBABILITY = 0.04


def _regular(num_points: int, radii) -> Polygon:
    """Returns a polygon around the origin whose corners cycle through the given radii."""
    angles = 2 * np.pi * np.arange(num_points) / num_points
    radius = np.resize(np.asarray(radii, dtype=float), num_points)
    return Polygon(np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1))


def _outline(category: str, rng: np.random.Generator):
    """Returns a shape of the given category around the origin, with a radius of about 1."""
    if category == "disc":
        return Point(0, 0).buffer(1, quad_segs=12)
    if category == "box":
        return box(-1, -0.8, 1, 0.8)
    if category == "triangle":
        return _regular(3, [1.15])
    if category == "star":
        return _regular(2 * rng.integers(5, 8), [1.2, rng.uniform(0.4, 0.55)])
    if category == "ring":
        disc = Point(0, 0).buffer(1, quad_segs=12)
        return disc.difference(Point(0, 0).buffer(rng.uniform(0.45, 0.65), quad_segs=12))
    arm = rng.uniform(0.15, 0.3)
    return unary_union([box(-1.1, -arm, 1.1, arm), box(-arm, -1.1, arm, 1.1)])


def _place(shape, width: int, height: int, radius: float, rng: np.random.Generator):
    """Scales, rotates and translates a shape randomly; it may extend beyond the image."""
    shape = affinity.scale(shape, radius, radius * rng.uniform(0.65, 1.0), origin=(0, 0))
    shape = affinity.rotate(shape, rng.uniform(0, 360), origin=(0, 0))
    return affinity.translate(shape, rng.uniform(0, width), rng.uniform(0, height))


def _polygons(shape) -> list[Polygon]:
    """Returns the polygons of a geometry whose area is above one pixel."""
    parts = getattr(shape, "geoms", [shape])
    return [part for part in parts if isinstance(part, Polygon) and part.area > 1]


def _flatten(ring) -> list[float]:
    """Converts a ring to COCO's [x0, y0, x1, y1, ...], without the repeated last point."""
    return np.asarray(ring.coords)[:-1].round(2).ravel().tolist()


def _encode(shape, width: int, height: int) -> dict:
    """Encodes a geometry, including its holes, as compressed RLE."""
    parts = _polygons(shape)
    outer = as_rle([_flatten(part.exterior) for part in parts], height, width)
    mask = mask_util.decode(outer)
    holes = [_flatten(ring) for part in parts for ring in part.interiors if Polygon(ring).area > 1]
    if holes:
        mask &= 1 - mask_util.decode(as_rle(holes, height, width))
    return mask_util.encode(np.asfortranarray(mask))


def _color(category: str, rng: np.random.Generator) -> np.ndarray:
    """Draws a color, (3,) RGB in [0, 255], whose hue is that of the class plus noise."""
    hue = CATEGORIES.index(category) / len(CATEGORIES) + rng.normal(scale=HUE_SPREAD)
    rgb = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.4, 1), rng.uniform(0.45, 1))
    return 255 * np.asarray(rgb)


def _texture(width: int, height: int, color, rng: np.random.Generator) -> np.ndarray:
    """Draws a (height, width, 3) texture of a color: stripes, checks, blotches or plain."""
    y, x = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 14)
    along = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period
    across = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period
    kind = rng.integers(4)
    if kind == 0:
        pattern = np.sin(along)
    elif kind == 1:
        pattern = np.sign(np.sin(along) * np.sin(across))
    elif kind == 2:
        coarse = rng.normal(size=(height // 8 + 1, width // 8 + 1))
        pattern = np.kron(coarse, np.ones((8, 8)))[:height, :width]
    else:
        pattern = np.zeros((height, width))
    amplitude = rng.uniform(8, 32) * rng.normal(1, 0.2, size=3)
    return np.asarray(color) + pattern[..., None] * amplitude


def _crowd(width: int, height: int, rng: np.random.Generator):
    """Returns a cluster of small discs, which is annotated as one crowd region."""
    x, y = rng.uniform(0.25, 0.75, size=2) * (width, height)
    offsets = rng.normal(scale=10, size=(14, 2))
    return unary_union([Point(x + dx, y + dy).buffer(rng.uniform(3, 5)) for dx, dy in offsets])


def _annotate(shape, category: str, crowd: bool, width: int, height: int) -> dict:
    """Returns the COCO annotation, without ids, of the visible part of a shape."""
    rle = _encode(shape, width, height)
    if crowd:
        # As in COCO, crowd regions are uncompressed RLE: run lengths in column-major order.
        pixels = mask_util.decode(rle).ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [1 - pixels[-1]]])))
        counts = np.diff(np.concatenate([[0], edges])).tolist()
        segmentation = {"size": [height, width], "counts": counts}
    elif any(part.interiors for part in _polygons(shape)):
        segmentation = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    else:
        segmentation = [_flatten(part.exterior) for part in _polygons(shape)]
    return {
        "category_id": CATEGORIES.index(category) + 1,
        "iscrowd": int(crowd),
        "area": float(mask_util.area(rle)),
        "bbox": [float(value) for value in mask_util.toBbox(rle)],
        "segmentation": segmentation,
    }


def _visible(shapes: list, frame) -> list:
    """Returns the visible part of each shape in the frame; later shapes occlude earlier ones."""
    visible, covered = [], Polygon()
    for shape in reversed(shapes):
        rest = shape.intersection(frame).difference(covered)
        visible.append(MultiPolygon(_polygons(rest)))
        covered = covered.union(shape)
    return visible[::-1]


def make_image(rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Generates one image with its annotations.

    Args:
        rng: random number generator that determines the image.

    Returns:
        The (H, W, 3) uint8 RGB image, and its COCO annotations without ids.
    """
    width, height = SIZES[rng.integers(len(SIZES))]
    image = _texture(width, height, rng.uniform(60, 190, size=3), rng)
    shapes = []
    if rng.random() >= EMPTY_PROBABILITY:
        for _ in range(rng.integers(1, 6)):
            category = CATEGORIES[rng.integers(len(CATEGORIES))]
            radius = float(np.exp(rng.uniform(np.log(13), np.log(38))))
            placed = _place(_outline(category, rng), width, height, radius, rng)
            shapes.append((placed, category, False))
        if rng.random() < CROWD_PROBABILITY:
            shapes.append((_crowd(width, height, rng), "disc", True))

    annotations = []
    frame = box(0, 0, width, height)
    for (shape, category, crowd), seen in zip(shapes, _visible([s[0] for s in shapes], frame)):
        if seen.is_empty:
            continue
        mask = mask_util.decode(_encode(seen, width, height)).astype(bool)
        image[mask] = _texture(width, height, _color(category, rng), rng)[mask]
        if mask.sum() >= max(MIN_VISIBLE_AREA, MIN_VISIBLE_FRACTION * shape.area):
            annotations.append(_annotate(seen, category, crowd, width, height))
    image += rng.normal(scale=7, size=image.shape)
    return image.clip(0, 255).astype(np.uint8), annotations


def make_split(root: Path, split: str, num_images: int, seed: int) -> Path:
    """Generates one split and writes its images, ``root/split/*.jpg``, and annotations.

    Image ``i`` depends only on the split, the seed and ``i``, so a larger split starts with the
    images of a smaller one.

    Args:
        root: directory of the dataset, created if it does not exist.
        split: name of the split, which is also part of the seed.
        num_images: number of images.
        seed: any non-negative integer.

    Returns:
        The path of the annotation file, ``root/annotations/instances_{split}.json``.
    """
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    records = CocoRecords(
        [
            {"id": index + 1, "name": name, "supercategory": "shape"}
            for index, name in enumerate(CATEGORIES)
        ]
    )
    for index in range(num_images):
        rng = np.random.default_rng([seed, *split.encode(), index])
        pixels, annotations = make_image(rng)
        name = f"{index + 1:012d}.jpg"
        Image.fromarray(pixels).save(folder / name, quality=95)
        height, width = pixels.shape[:2]
        records.add(name, width, height, annotations)
    path = root / "annotations" / f"instances_{split}.json"
    info = {"description": "Made shapes of msrcnn", "seed": seed}
    records.write(path, info=info, licenses=[])
    return path
