"""A small batch of rectangles, as Detectron2's mapper gives it to a model."""

import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

SIZE = (96, 128)  # height, width


def ground_truth(num_instances=3, mask_format="bitmask", num_classes=6):
    """Rectangles as instances of an image."""
    instances = Instances(SIZE)
    boxes = torch.tensor([[8.0 + 20 * i, 10, 30 + 22 * i, 60] for i in range(num_instances)])
    instances.gt_boxes = Boxes(boxes.reshape(-1, 4))
    instances.gt_classes = torch.arange(num_instances) % num_classes
    if mask_format == "polygon":
        polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()]
        instances.gt_masks = PolygonMasks(polygons)
    else:
        masks = torch.zeros(num_instances, *SIZE, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
            mask[y0:y1, x0:x1] = True
        instances.gt_masks = BitMasks(masks)
    return instances


def empty_ground_truth():
    """What Detectron2's mapper gives for an image without annotations: no gt_masks."""
    instances = Instances(SIZE)
    instances.gt_boxes = Boxes(torch.zeros(0, 4))
    instances.gt_classes = torch.zeros(0, dtype=torch.int64)
    return instances


def batch(*instances):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 255, (3, *SIZE), generator=generator).float() for _ in instances]
    return [{"image": i, "instances": x} for i, x in zip(images, instances)]


def losses_of(model, inputs):
    """Losses of one training step, whose random choices are fixed."""
    torch.manual_seed(2)
    return model.train()(inputs)
