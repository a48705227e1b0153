"""Masks of an image's instances, which proposals refer to by index."""

import torch
from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks, PolygonMasks


class InstanceMasks(BitMasks):
    """``BitMasks`` that can be indexed without copying masks.

    Detectron2's ROI heads select the mask of the matched instance for every sampled proposal:
    512 masks of 800 x 1333 pixels are 546 MB. Here a selection holds the masks of the image and
    the index of each.

    Attributes:
        masks: bool tensor of shape (I, H, W), one for each instance of the image.
        index: int64 tensor of shape (N,), the instance of each of the N masks.
    """

    def __init__(self, masks: torch.Tensor, index: torch.Tensor | None = None):
        """
        Args:
            masks, index: see the attributes; without an index, each instance once.
        """
        self.masks, self.image_size = masks, masks.shape[1:]
        self.index = torch.arange(len(masks), device=masks.device) if index is None else index

    @classmethod
    def rasterized(
        cls, masks: BitMasks | PolygonMasks, image_size: tuple[int, int], device: torch.device
    ) -> "InstanceMasks":
        """Converts the masks of an image's instances; each polygon is drawn once.

        Args:
            masks: bitmasks or polygons.
            image_size: (height, width) of the image.
            device: device of the result.
        """
        if isinstance(masks, cls):
            return masks.to(device)
        if isinstance(masks, PolygonMasks):
            masks = BitMasks.from_polygon_masks(masks, *image_size)
        return cls(masks.tensor.to(device))

    @property
    def tensor(self) -> torch.Tensor:
        """Bool tensor of shape (N, H, W): a copy of each mask."""
        return self.masks[self.index]

    @property
    def device(self) -> torch.device:
        return self.masks.device

    def to(self, *args, **kwargs) -> "InstanceMasks":
        masks = self.masks.to(*args, **kwargs)
        return InstanceMasks(masks, self.index.to(masks.device))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, item) -> "InstanceMasks":
        index = self.index[item]
        return InstanceMasks(self.masks, index[None] if index.ndim == 0 else index)

    def __iter__(self):
        yield from (self.masks[instance] for instance in self.index)

    def nonempty(self) -> torch.Tensor:
        return self.masks.flatten(1).any(dim=1)[self.index]

    def crop_and_resize(self, boxes: torch.Tensor, mask_size: int) -> torch.Tensor:
        """Returns the same as that of ``BitMasks``, of shape (N, mask_size, mask_size)."""
        assert len(boxes) == len(self), f"{len(boxes)} != {len(self)}"
        boxes = boxes.to(self.device)
        rois = torch.cat([self.index[:, None].to(boxes.dtype), boxes], dim=1)
        align = ROIAlign((mask_size, mask_size), 1.0, 0, aligned=True)
        return align(self.masks[:, None].to(boxes.dtype), rois)[:, 0] >= 0.5
