"""What the MaskIoU head learns: the IoU of predicted masks with whole instances (paper 3.2)."""

import pycocotools.mask as mask_util
import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks


def instance_areas(
    masks: BitMasks | PolygonMasks, image_size: tuple[int, int], device: torch.device | None = None
) -> torch.Tensor:
    """The area in the image of each whole ground-truth instance.

    Args:
        masks: N instances, as polygons or bitmasks.
        image_size: (height, width) of the image. What of a polygon lies outside does not count;
            overlapping parts of an instance count once.
        device: where the result goes; by default where the masks are.

    Returns:
        Float tensor of shape (N,), in pixels.

    Raises:
        TypeError: for masks of any other type.
    """
    if isinstance(masks, BitMasks):
        return masks.tensor.flatten(1).sum(dim=1).to(device=device, dtype=torch.float32)
    if not isinstance(masks, PolygonMasks):
        raise TypeError(f"gt_masks are {type(masks).__name__}; expected BitMasks or PolygonMasks")
    # Sampled proposals repeat the few instances of the image.
    known: dict[tuple[bytes, ...], float] = {}
    areas = []
    for polygons in masks.polygons:
        key = tuple(polygon.tobytes() for polygon in polygons)
        if key not in known:
            known[key] = _polygon_area(polygons, image_size)
        areas.append(known[key])
    return torch.tensor(areas, dtype=torch.float32, device=device)


def ground_truth_areas(instances: Instances, device: torch.device) -> torch.Tensor:
    """The areas of whole instances, (N,): ``gt_mask_area``, or computed where that is missing."""
    if instances.has("gt_mask_area"):
        return instances.gt_mask_area
    return instance_areas(instances.gt_masks, instances.image_size, device)


def _polygon_area(polygons: list, image_size: tuple[int, int]) -> float:
    """Pixels that an instance's polygons, arrays of (x0, y0, x1, y1, ...), cover in the image."""
    if not polygons:  # what a random crop can leave of an instance
        return 0.0
    rles = mask_util.frPyObjects([polygon.tolist() for polygon in polygons], *image_size)
    return float(mask_util.area(mask_util.merge(rles)))


def maskiou_targets(
    pred_masks: torch.Tensor, gt_crops: torch.Tensor, gt_areas: torch.Tensor, boxes: torch.Tensor
) -> torch.Tensor:
    """MaskIoU of predicted masks with the whole instances they are matched to.

    The part of an instance outside the proposal box is part of the union though no mask crop
    shows it. The authors' code finds its size by clipping every polygon to every box; the area
    of the whole instance, known once per instance, gives the same without any clipping.

    Args:
        pred_masks: bool tensor of shape (N, M, M), masks predicted in ``boxes``, binarised.
        gt_crops: bool tensor of shape (N, M, M), the instances cropped to ``boxes``.
        gt_areas: tensor of shape (N,), areas of the whole instances in image pixels.
        boxes: tensor of shape (N, 4), proposal boxes as (x0, y0, x1, y1) in image pixels.

    Returns:
        Float tensor of shape (N,) with values in [0, 1]; 0 for an empty box and where neither
        mask has a pixel.
    """
    pred, crop = pred_masks.flatten(1), gt_crops.flatten(1)
    intersection = (pred & crop).sum(dim=1, dtype=torch.float32)
    pred_area = pred.sum(dim=1, dtype=torch.float32)
    crop_area = crop.sum(dim=1, dtype=torch.float32)
    sides = (boxes[:, 2:] - boxes[:, :2]).float().clamp(min=0)
    box_area = sides.prod(dim=1)
    # The instance in units of mask pixels. Area and rasterised crop disagree a little; an
    # instance is never smaller than the part of it seen in the box.
    full_area = gt_areas.float() * pred.shape[1] / box_area.clamp(min=1e-6)
    full_area = torch.maximum(full_area, crop_area)
    union = pred_area + full_area - intersection
    iou = intersection / union.clamp(min=1e-6)
    return torch.where(box_area > 0, iou, torch.zeros_like(iou)).clamp(0, 1)
