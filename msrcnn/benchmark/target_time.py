"""Time of the MaskIoU target, compared with the methods of two earlier implementations."""

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from tabulate import tabulate

from ..data.mask_rle import as_rle
from ..engine import Trainer, prepare_config
from ..modeling.cropped_masks import with_cropped_masks
from ..modeling.maskiou_target import ground_truth_areas, maskiou_targets
from .benchmark_config import add_config
from .timing import measure_in_turn, ratio, text

SIDE = 28  # of a predicted mask
SHIFT = 0.1  # of proposals, standard deviation in box sides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)
    parser.add_argument("--proposals", type=int, default=128, help="per image, foreground")
    parser.add_argument("--repeats", type=int, default=10, help="batches to measure")


def measure(args: argparse.Namespace) -> dict:
    """Measures on polygons of ``DATASETS.TRAIN``, at the size that the config trains with.

    All ways get predicted masks and ground truth cropped to the proposals, which the mask loss
    needs in any case, and find the part of each instance that lies outside its proposal:

    * ``ours``: from the area of the whole instance, which a data worker has computed, see
      :func:`maskiou_targets`;
    * ``clipping``: from the polygons of the instance, clipped to each proposal, as in the
      authors' code on maskrcnn-benchmark;
    * ``cropping``: from the bitmap of the instance, which a data worker has drawn, cropped to each
      proposal, as in mmdet.

    Returns:
        ``config``, ``overrides``, numbers of ``images``, ``instances`` and ``proposals``;
        ``seconds`` of each way and repeat; ratios ``clipping`` and ``cropping``, how many times
        as long as ours they take.
    """
    opts = [*args.opts, "DATALOADER.NUM_WORKERS", 0, "INPUT.MASK_FORMAT", "polygon", "SEED", 0]
    cfg = prepare_config(args.config_file, opts, splits=("TRAIN",))
    torch.manual_seed(cfg.SEED)
    batch = next(iter(Trainer.build_train_loader(cfg)))
    images = [Image(record["instances"], args.proposals) for record in batch]
    ways = {
        "ours": lambda _: ours(images),
        "clipping": lambda _: [clipping(image) for image in images],
        "cropping": lambda _: [cropping(image) for image in images],
    }
    seconds = measure_in_turn(ways, torch.device("cpu"), args.repeats)
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "images": len(images),
        "instances": sum(len(image.instances) for image in images),
        "proposals": sum(len(image.boxes) for image in images),
        "seconds": seconds,
        "clipping": ratio(seconds, "clipping", "ours"),
        "cropping": ratio(seconds, "cropping", "ours"),
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = [
        (
            name,
            f"{statistics.median(seconds) * 1e3:.2f} ms",
            text(result[name]) if name in result else "1",
        )
        for name, seconds in result["seconds"].items()
    ]
    of_batch = f"targets of {result['images']} images, {result['proposals']} proposals"
    return tabulate(rows, (of_batch, "time", "times as long as ours"), tablefmt="pipe")


class Image:
    """Instances of an image with proposals near them, and masks predicted in these."""

    def __init__(self, instances: Instances, proposals: int):
        self.instances, self.size = instances, instances.image_size
        self.bitmaps = BitMasks.from_polygon_masks(instances.gt_masks, *self.size).tensor.numpy()
        matched = torch.arange(proposals) % len(instances)
        boxes = instances.gt_boxes.tensor[matched]
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        boxes = Boxes(boxes + torch.randn(boxes.shape) * SHIFT * sides)
        boxes.clip(self.size)
        self.boxes = boxes.tensor
        self.matched = matched
        found = Instances(self.size, proposal_boxes=boxes, gt_classes=instances.gt_classes[matched])
        found.gt_masks = instances.gt_masks[matched]
        self.crops = with_cropped_masks(found, SIDE).gt_masks.crops
        self.predicted = torch.rand(len(boxes), SIDE, SIDE) > 0.5


def ours(images: Sequence[Image]) -> torch.Tensor:
    """Targets of the proposals of all images, of shape (N,), which a step computes at once."""
    device = images[0].predicted.device
    areas = [ground_truth_areas(image.instances, device)[image.matched] for image in images]
    predicted, crops, boxes = (
        torch.cat([getattr(image, name) for image in images])
        for name in ("predicted", "crops", "boxes")
    )
    return maskiou_targets(predicted, crops, torch.cat(areas), boxes)


def clipping(image: Image) -> torch.Tensor:
    """Targets, of shape (N,), by clipped polygons."""
    shares = []
    for instance, box in zip(image.matched.tolist(), image.boxes.numpy()):
        polygons = image.instances.gt_masks.polygons[instance]
        low, high = np.tile(box[:2], 2), np.tile(box[2:], 2)
        clipped = [
            np.clip(polygon.reshape(-1, 2), low[:2], high[:2]).reshape(-1) for polygon in polygons
        ]
        inside, whole = (_drawn_area(each, image.size) for each in (clipped, polygons))
        shares.append(inside / max(whole, 1.0))
    return _targets(image, shares)


def cropping(image: Image) -> torch.Tensor:
    """Targets, of shape (N,), by cropped bitmaps."""
    areas = image.bitmaps.sum(axis=(1, 2))  # once for each instance, as in mmdet
    shares = []
    for instance, box in zip(image.matched.tolist(), image.boxes.numpy()):
        x0, y0, x1, y1 = box.round().astype(int)
        inside = image.bitmaps[instance, y0:y1, x0:x1].sum()
        shares.append(inside / max(areas[instance], 1))
    return _targets(image, shares)


def _drawn_area(polygons: list[np.ndarray], size: tuple[int, int]) -> float:
    return float(mask_util.area(as_rle([polygon.tolist() for polygon in polygons], *size)))


def _targets(image: Image, shares: list[float]) -> torch.Tensor:
    """Computes MaskIoU from the share of each instance that is inside its proposal."""
    predicted, crops = image.predicted.flatten(1), image.crops.flatten(1)
    inside = crops.sum(dim=1)
    whole = inside / torch.tensor(shares, dtype=torch.float32).clamp(min=1e-3)
    intersection = (predicted & crops).sum(dim=1)
    return intersection / (predicted.sum(dim=1) + whole - intersection).clamp(min=1e-6)
