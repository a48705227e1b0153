"""An anchor generator with explicit anchors, for models converted from other libraries."""

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator

from ..errors import UserError


@ANCHOR_GENERATOR_REGISTRY.register()
class GivenAnchorGenerator(DefaultAnchorGenerator):
    """Places the anchors of ``MODEL.ANCHOR_GENERATOR.CELL_ANCHORS`` at every feature map cell.

    Detectron2 computes anchors with exact areas and aspect ratios. maskrcnn-benchmark and
    torchvision round anchors to whole pixels, and an RPN trained with those needs the same anchors.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        ret = super().from_config(cfg, input_shape)
        ret["sizes"] = cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS
        if len(ret["sizes"]) != len(input_shape):
            raise UserError(
                f"MODEL.ANCHOR_GENERATOR.CELL_ANCHORS has anchors for {len(ret['sizes'])} feature "
                f"maps, but the RPN has {len(input_shape)}; they must match"
            )
        return ret

    def generate_cell_anchors(self, sizes, aspect_ratios) -> torch.Tensor:
        """
        Args:
            sizes: anchors of one feature map, each as (x0, y0, x1, y1).
            aspect_ratios: not used.

        Returns:
            Tensor of shape (number of anchors, 4).
        """
        return torch.tensor(sizes)
