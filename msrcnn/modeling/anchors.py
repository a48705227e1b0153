"""Anchors given one by one, for models whose own library rounds theirs."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator

from ..errors import UserError


@ANCHOR_GENERATOR_REGISTRY.register()
class GivenAnchorGenerator(DefaultAnchorGenerator):
    """The anchors of ``MODEL.ANCHOR_GENERATOR.CELL_ANCHORS`` at every cell of the feature maps.

    Detectron2 makes anchors of exact areas and aspect ratios. maskrcnn-benchmark and torchvision
    round theirs to whole pixels, and an RPN trained on those fits no other.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        ret = super().from_config(cfg, input_shape)
        ret["sizes"] = cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS
        if len(ret["sizes"]) != len(input_shape):
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR.CELL_ANCHORS has anchors for {len(ret['sizes'])} feature "
                f"maps, but the RPN has {len(input_shape)}"
            )
        return ret

    def generate_cell_anchors(self, sizes, aspect_ratios) -> torch.Tensor:
        """
        Args:
            sizes: the anchors of one feature map, each as (x0, y0, x1, y1).
            aspect_ratios: not used; an anchor has its own.

        Returns:
            Tensor of shape (number of anchors, 4).
        """
        return torch.tensor(sizes)
