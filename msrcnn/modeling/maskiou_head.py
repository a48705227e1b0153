"""The MaskIoU head: regresses the IoU of a predicted mask with its instance (paper 3.2)."""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from torch import nn
from torch.nn import functional as F

from ..config import check_choice

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = """
Registry for MaskIoU heads, which predict one MaskIoU per class for every predicted mask.

The registered object is called with ``obj(cfg, input_shape, mask_shape)``, the shapes of the
RoI feature and of the mask logits. Its ``forward`` takes the RoI features, the mask logits and
the class of each mask (see :class:`MaskIoUHead`).
"""


def select_class_masks(mask_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The mask of each sample's class.

    Args:
        mask_logits: tensor of shape (N, C, M, M), or (N, 1, M, M) if masks are class-agnostic.
        classes: int64 tensor of shape (N,).

    Returns:
        Logits of shape (N, M, M).
    """
    if mask_logits.shape[1] == 1:
        return mask_logits[:, 0]
    return mask_logits[torch.arange(len(classes), device=mask_logits.device), classes]


class ConcatInput:
    """RoI feature and max-pooled mask of the target class, concatenated (paper, design a)."""

    def __init__(self, input_shape: ShapeSpec, mask_shape: ShapeSpec):
        """
        Args:
            input_shape: channels, height and width of the RoI feature.
            mask_shape: channels, height and width of the mask logits; a multiple of the feature.

        Raises:
            ValueError: if the mask's side is not a multiple of the feature's.
        """
        if mask_shape.height % input_shape.height or mask_shape.width % input_shape.width:
            raise ValueError(
                f"masks of {mask_shape.height} x {mask_shape.width} cannot be pooled to RoI "
                f"features of {input_shape.height} x {input_shape.width}"
            )
        self.stride = mask_shape.height // input_shape.height
        self.output_shape = ShapeSpec(
            channels=input_shape.channels + 1, height=input_shape.height, width=input_shape.width
        )

    def __call__(
        self, features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Tensors as in :meth:`MaskIoUHead.forward`; returns (N, channels + 1, H, W)."""
        masks = select_class_masks(mask_logits, classes)[:, None].sigmoid()
        return torch.cat([features, F.max_pool2d(masks, self.stride)], dim=1)


INPUT_DESIGNS = {"concat": ConcatInput}


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """Convolutions, the last with stride 2, then fully connected layers, one output per class."""

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        mask_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: list[int],
        fc_dims: list[int],
        conv_norm: str = "",
        input_design: str = "concat",
    ):
        """
        Args:
            input_shape: channels, height and width of the RoI feature.
            mask_shape: channels, height and width of the mask logits.
            num_classes: number of foreground classes.
            conv_dims: output channels of the convolutions.
            fc_dims: output sizes of the hidden fully connected layers.
            conv_norm: normalisation of the convolutions, see ``detectron2.layers.get_norm``.
            input_design: how feature and mask make up the input, a key of ``INPUT_DESIGNS``.
        """
        super().__init__()
        self.input_design = INPUT_DESIGNS[input_design](input_shape, mask_shape)
        shape = self.input_design.output_shape
        channels, height, width = shape.channels, shape.height, shape.width

        self.convs = []
        for index, dim in enumerate(conv_dims, start=1):
            stride = 2 if index == len(conv_dims) else 1
            conv = Conv2d(
                channels,
                dim,
                kernel_size=3,
                stride=stride,
                padding=1,
                bias=not conv_norm,
                norm=get_norm(conv_norm, dim),
                activation=F.relu,
            )
            weight_init.c2_msra_fill(conv)
            self.add_module(f"maskiou_fcn{index}", conv)
            self.convs.append(conv)
            channels = dim
            height, width = -(-height // stride), -(-width // stride)

        self.fcs = []
        size = channels * height * width
        for index, dim in enumerate(fc_dims, start=1):
            fc = nn.Linear(size, dim)
            weight_init.c2_xavier_fill(fc)
            self.add_module(f"maskiou_fc{index}", fc)
            self.fcs.append(fc)
            size = dim

        self.maskiou = nn.Linear(size, num_classes)
        nn.init.normal_(self.maskiou.weight, std=0.01)
        nn.init.zeros_(self.maskiou.bias)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        check_choice("MODEL.ROI_MASKIOU_HEAD.INPUT", head.INPUT, INPUT_DESIGNS)
        return {
            "input_shape": input_shape,
            "mask_shape": mask_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
            "input_design": head.INPUT,
        }

    def forward(
        self, features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            features: RoI features the masks were predicted from, of shape (N, channels, H, W).
            mask_logits: predicted masks, of shape (N, C, M, M), or (N, 1, M, M) if class-agnostic.
            classes: int64 tensor of shape (N,): the matched ground-truth classes in training,
                the predicted ones at test time.

        Returns:
            Predicted MaskIoU of every class, of shape (N, num_classes), not clamped.
        """
        x = self.input_design(features, mask_logits, classes)
        for conv in self.convs:
            x = conv(x)
        x = x.flatten(1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return self.maskiou(x)


def build_maskiou_head(cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> nn.Module:
    """Build the MaskIoU head named ``cfg.MODEL.ROI_MASKIOU_HEAD.NAME``.

    Raises:
        ValueError: if no head of that name is registered.
    """
    name = cfg.MODEL.ROI_MASKIOU_HEAD.NAME
    check_choice("MODEL.ROI_MASKIOU_HEAD.NAME", name, dict(ROI_MASKIOU_HEAD_REGISTRY))
    return ROI_MASKIOU_HEAD_REGISTRY.get(name)(cfg, input_shape, mask_shape)
