"""The MaskIoU head: regresses the IoU of a predicted mask with its instance (paper 3.2)."""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from torch import nn
from torch.nn import functional as F

from ..config import check_choice
from .mask_confidence import mask_confidence

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = """
Registry for MaskIoU heads, which predict one MaskIoU per class for every predicted mask.

The registered object is called with ``obj(cfg, input_shape, mask_shape)``, the shapes of the
feature it will see and of the mask logits. Its ``forward`` takes the features, the mask logits
and the class of each mask (see :class:`MaskIoUHead`); its ``uses_mask_features`` says whether the
features are the mask head's own, before its upsampling, instead of the RoI's.
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

    feature_scale = 1  # side of the RoI feature it wants, in units of the mask head's

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
            channels=self._channels(input_shape.channels, mask_shape.channels),
            height=input_shape.height,
            width=input_shape.width,
        )

    def _channels(self, feature_channels: int, mask_channels: int) -> int:
        """Number of channels of the input."""
        return feature_channels + 1

    def pooled_mask(self, mask_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """Probabilities of the target class's mask at the feature's size, (N, 1, H, W)."""
        masks = select_class_masks(mask_logits, classes)[:, None].sigmoid()
        return F.max_pool2d(masks, self.stride)

    def __call__(
        self, features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """Tensors as in :meth:`MaskIoUHead.forward`; returns (N, *output_shape)."""
        return torch.cat([features, self.pooled_mask(mask_logits, classes)], dim=1)


class MultiplyInput(ConcatInput):
    """RoI feature times the max-pooled mask of the target class (paper, design b)."""

    def _channels(self, feature_channels: int, mask_channels: int) -> int:
        return feature_channels

    def __call__(self, features, mask_logits, classes):
        return features * self.pooled_mask(mask_logits, classes)


class AllMasksInput(ConcatInput):
    """RoI feature and the max-pooled masks of all classes, concatenated (paper, design c)."""

    def _channels(self, feature_channels: int, mask_channels: int) -> int:
        return feature_channels + mask_channels

    def __call__(self, features, mask_logits, classes):
        return torch.cat([features, F.max_pool2d(mask_logits.sigmoid(), self.stride)], dim=1)


class HighResInput(ConcatInput):
    """A RoI feature of the mask's size and the mask, not pooled, concatenated (paper, design d)."""

    feature_scale = 2


INPUT_DESIGNS = {
    "concat": ConcatInput,
    "multiply": MultiplyInput,
    "all_masks": AllMasksInput,
    "high_res": HighResInput,
}


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """Convolutions, the last with stride 2, then fully connected layers, one output per class."""

    uses_mask_features = False  # it sees the RoI feature, not the mask head's own

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

        self.fcs = _add_fcs(self, channels * height * width, fc_dims, num_classes)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_MASKIOU_HEAD
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


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoULiteHead(nn.Module):
    """A MaskIoU head without convolutions of its own (a direction the paper leaves open).

    The mask head has looked at the RoI already: its last feature before the upsampling is
    averaged over the whole RoI and over the predicted mask alone, and fully connected layers
    read MaskIoU from the two averages and the mask's share of the RoI.
    """

    uses_mask_features = True

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        mask_shape: ShapeSpec,
        *,
        num_classes: int,
        fc_dims: list[int],
    ):
        """
        Args:
            input_shape: channels, height and width of the mask head's feature.
            mask_shape: channels, height and width of the mask logits.
            num_classes: number of foreground classes.
            fc_dims: output sizes of the hidden fully connected layers.
        """
        super().__init__()
        self.input_design = ConcatInput(input_shape, mask_shape)
        self.fcs = _add_fcs(self, 2 * input_shape.channels + 1, fc_dims, num_classes)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        # It has one way to take its input.
        check_choice("MODEL.ROI_MASKIOU_HEAD.INPUT", head.INPUT, ["concat"])
        return {
            "input_shape": input_shape,
            "mask_shape": mask_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
        }

    def forward(
        self, features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """As :meth:`MaskIoUHead.forward`, with the mask head's feature."""
        mask = self.input_design.pooled_mask(mask_logits, classes)
        share = mask.mean(dim=(2, 3))
        inside = (features * mask).mean(dim=(2, 3)) / share.clamp(min=1e-6)
        x = torch.cat([features.mean(dim=(2, 3)), inside, share], dim=1)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return self.maskiou(x)


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskConfidenceHead(nn.Module):
    """No head at all: takes a mask's own mean foreground probability for its MaskIoU.

    Free, and without training; the baseline that every learned score must beat.
    """

    uses_mask_features = False

    @configurable
    def __init__(self, input_shape: ShapeSpec, mask_shape: ShapeSpec, *, num_classes: int):
        """
        Args:
            input_shape, mask_shape: as of the other heads; not used.
            num_classes: number of foreground classes.
        """
        super().__init__()
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> dict:
        return {
            "input_shape": input_shape,
            "mask_shape": mask_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def forward(
        self, features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
    ) -> torch.Tensor:
        """As :meth:`MaskIoUHead.forward`; the same value for every class, without a gradient."""
        masks = select_class_masks(mask_logits.detach(), classes).sigmoid()
        return mask_confidence(masks)[:, None].expand(-1, self.num_classes)


def _add_fcs(head: nn.Module, size: int, fc_dims: list[int], num_classes: int) -> list[nn.Linear]:
    """Give a head its fully connected layers ``maskiou_fc1...`` and its output ``maskiou``.

    Args:
        head: changed in place.
        size: of the input.
        fc_dims: output sizes of the hidden layers.
        num_classes: size of the output.

    Returns:
        The hidden layers.
    """
    fcs = []
    for index, dim in enumerate(fc_dims, start=1):
        fc = nn.Linear(size, dim)
        weight_init.c2_xavier_fill(fc)
        head.add_module(f"maskiou_fc{index}", fc)
        fcs.append(fc)
        size = dim
    head.maskiou = nn.Linear(size, num_classes)
    nn.init.normal_(head.maskiou.weight, std=0.01)
    nn.init.zeros_(head.maskiou.bias)
    return fcs


def build_maskiou_head(cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> nn.Module:
    """Build the MaskIoU head named ``cfg.MODEL.ROI_MASKIOU_HEAD.NAME``.

    Args:
        cfg: the config.
        input_shape: shape of the mask head's RoI feature; the head is given the shape of what
            it will see, which may be a finer feature or the mask head's own.
        mask_shape: shape of the mask logits.

    Raises:
        ValueError: if no head of that name is registered, or the input design is unknown.
    """
    name = cfg.MODEL.ROI_MASKIOU_HEAD.NAME
    check_choice("MODEL.ROI_MASKIOU_HEAD.NAME", name, dict(ROI_MASKIOU_HEAD_REGISTRY))
    check_choice("MODEL.ROI_MASKIOU_HEAD.INPUT", cfg.MODEL.ROI_MASKIOU_HEAD.INPUT, INPUT_DESIGNS)
    head = ROI_MASKIOU_HEAD_REGISTRY.get(name)
    if head.uses_mask_features and cfg.MODEL.ROI_MASK_HEAD.NUM_CONV > 0:
        channels, scale = cfg.MODEL.ROI_MASK_HEAD.CONV_DIM, 1
    else:
        channels = input_shape.channels
        scale = INPUT_DESIGNS[cfg.MODEL.ROI_MASKIOU_HEAD.INPUT].feature_scale
    shape = ShapeSpec(
        channels=channels, height=input_shape.height * scale, width=input_shape.width * scale
    )
    return head(cfg, shape, mask_shape)
