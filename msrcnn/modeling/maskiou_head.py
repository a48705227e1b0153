"""The MaskIoU head: predicts the IoU of a predicted mask with its instance (paper 3.2)."""

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.config import configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.utils.registry import Registry
from torch import nn
from torch.nn import functional as F

from .detection_context import CONTEXT
from .mask_confidence import mask_confidence
from .mask_scalars import SCALARS
from .maskiou_input import INPUT_DESIGNS, pool_class_masks, select_class_masks

ROI_MASKIOU_HEAD_REGISTRY = Registry("ROI_MASKIOU_HEAD")
ROI_MASKIOU_HEAD_REGISTRY.__doc__ = """
Registry for MaskIoU heads, which predict one MaskIoU per class for every predicted mask.

The registered object is called with ``obj(cfg, input_shape, mask_shape)``: the shapes of its
input feature and of the mask logits. Its ``forward`` takes the features, the mask logits and the
class of each mask, and if it has a :class:`ScalarNorm` as ``scalar_norm``, the scalars of each
mask that ``MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS`` and ``INPUT_CONTEXT`` select (see
:class:`MaskIoUHead`). Two class attributes describe it: ``inputs``, the values of
``MODEL.ROI_MASKIOU_HEAD.INPUT`` that it supports, and ``uses_mask_features``, whether it takes the
mask head's last feature before upsampling instead of the RoI feature. If its attribute
``needs_all_masks`` is ``False``, it looks at the logits of the given classes only, and inference
need not compute the others.
"""

ALL_SCALARS = (*SCALARS, *CONTEXT)


def scalar_columns(cfg) -> slice | None:
    """Returns which of ``ALL_SCALARS`` a config's MaskIoU head uses; ``None`` if it uses none."""
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    start = 0 if head.INPUT_SCALARS else len(SCALARS)
    stop = len(ALL_SCALARS) if head.INPUT_CONTEXT else len(SCALARS)
    return slice(start, stop) if start < stop else None


class ScalarNorm(nn.Module):
    """Normalizes the scalars of :data:`ALL_SCALARS` that a head uses by mean and deviation.

    Both are buffers, so that they are part of a checkpoint. Fitting the head sets them to those of
    its samples; the initial values are typical ones.
    """

    def __init__(self, columns: slice):
        """
        Args:
            columns: the scalars that the head uses, see :func:`scalar_columns`.
        """
        super().__init__()
        mean = (4.0, 4.0, 0.9, 0.2, 0.5, 0.2, 0.2, 0.2, 0.2)
        std = (1.0, 1.0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.3, 0.3)
        assert len(mean) == len(std) == len(ALL_SCALARS)
        self.columns = columns
        used = ALL_SCALARS[columns]
        self.takes_mask_scalars, self.takes_context = used[0] in SCALARS, used[-1] in CONTEXT
        self.register_buffer("mean", torch.tensor(mean[columns]))
        self.register_buffer("std", torch.tensor(std[columns]))

    def forward(self, scalars: torch.Tensor) -> torch.Tensor:
        """Takes and returns a tensor of shape (N, K), the columns that the head uses."""
        return (scalars - self.mean) / self.std


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoUHead(nn.Module):
    """The paper's head: convolutions, the last one with stride 2, then fully connected layers."""

    inputs = tuple(INPUT_DESIGNS)
    uses_mask_features = False

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
        scalars: slice | None = None,
    ):
        """
        Args:
            input_shape: channels, height and width of the RoI feature.
            mask_shape: channels, height and width of the mask logits.
            num_classes: number of foreground classes.
            conv_dims: output channels of the convolutions.
            fc_dims: output sizes of the hidden fully connected layers.
            conv_norm: normalization of the convolutions, see ``detectron2.layers.get_norm``.
            input_design: how feature and mask are combined, a key of ``INPUT_DESIGNS``.
            scalars: the scalars that the first fully connected layer also takes, see
                :func:`scalar_columns`.

        Raises:
            ValueError: if the mask's size is not a multiple of the feature's.
        """
        super().__init__()
        check_pooling(input_shape, mask_shape)
        design = INPUT_DESIGNS[input_design]
        self.combine, self.needs_all_masks = design.combine, design.needs_all_masks
        self.input_size = (input_shape.height, input_shape.width)
        channels = design.num_channels(input_shape.channels, mask_shape.channels)
        height, width = input_shape.height, input_shape.width

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

        self.scalar_norm = scalars and ScalarNorm(scalars)
        size = channels * height * width + num_scalars(self.scalar_norm)
        self.fcs = add_fcs(self, size, fc_dims, num_classes)

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
            "scalars": scalar_columns(cfg),
        }

    def forward(
        self,
        features: torch.Tensor,
        mask_logits: torch.Tensor,
        classes: torch.Tensor,
        scalars: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Args:
            features: RoI features that the masks were predicted from, (N, channels, H, W).
            mask_logits: predicted masks, (N, C, M, M), or (N, 1, M, M) if class-agnostic.
            classes: int64 tensor of shape (N,): the matched ground-truth classes in training, the
                predicted classes at test time.
            scalars: those of each mask that the head uses, of shape (N, K).

        Returns:
            Predicted MaskIoU of every class, of shape (N, num_classes), not clamped.

        Raises:
            ValueError: if the features are not of the size that the head was built for.
        """
        if tuple(features.shape[-2:]) != self.input_size:
            raise ValueError(
                f"RoI features are of size {tuple(features.shape[-2:])}, but the MaskIoU head was "
                f"built for {self.input_size}; with Res5ROIHeads (C4) set "
                "MODEL.ROI_MASK_HEAD.NAME MaskScoringRes5Head"
            )
        x = self.combine(features, mask_logits, classes)
        for conv in self.convs:
            x = conv(x)
        x = with_scalars(x.flatten(1), scalars, self.scalar_norm)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return self.maskiou(x)


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskIoULiteHead(nn.Module):
    """A MaskIoU head without convolutions of its own (a direction that the paper leaves open).

    The mask head has already looked at the RoI: its last feature before upsampling is averaged
    over the whole RoI and over the predicted mask, and fully connected layers predict MaskIoU from
    the two averages and the mask's share of the RoI.
    """

    inputs = ("concat",)
    uses_mask_features, needs_all_masks = True, False

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        mask_shape: ShapeSpec,
        *,
        num_classes: int,
        fc_dims: list[int],
        scalars: slice | None = None,
    ):
        """
        Args:
            input_shape: channels, height and width of the mask head's feature.
            mask_shape: channels, height and width of the mask logits.
            num_classes: number of foreground classes.
            fc_dims: output sizes of the hidden fully connected layers.
            scalars: the scalars that the first fully connected layer also takes, see
                :func:`scalar_columns`.

        Raises:
            ValueError: if the mask's size is not a multiple of the feature's.
        """
        super().__init__()
        check_pooling(input_shape, mask_shape)
        self.scalar_norm = scalars and ScalarNorm(scalars)
        size = 2 * input_shape.channels + 1 + num_scalars(self.scalar_norm)
        self.fcs = add_fcs(self, size, fc_dims, num_classes)

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec, mask_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        return {
            "input_shape": input_shape,
            "mask_shape": mask_shape,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "scalars": scalar_columns(cfg),
        }

    def forward(
        self,
        features: torch.Tensor,
        mask_logits: torch.Tensor,
        classes: torch.Tensor,
        scalars: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Same as :meth:`MaskIoUHead.forward`, with the mask head's feature."""
        mask = pool_class_masks(mask_logits, classes, features)
        share = mask.mean(dim=(2, 3))
        inside = (features * mask).mean(dim=(2, 3)) / share.clamp(min=1e-6)
        x = torch.cat([features.mean(dim=(2, 3)), inside, share], dim=1)
        x = with_scalars(x, scalars, self.scalar_norm)
        for fc in self.fcs:
            x = F.relu(fc(x))
        return self.maskiou(x)


@ROI_MASKIOU_HEAD_REGISTRY.register()
class MaskConfidenceHead(nn.Module):
    """Predicts the mask's own mean foreground probability as its MaskIoU, without parameters.

    Costs nothing and needs no training: the baseline that every learned score must beat.
    """

    inputs = ("concat",)  # the default, as the feature is not used
    uses_mask_features = needs_all_masks = False

    @configurable
    def __init__(self, input_shape: ShapeSpec, mask_shape: ShapeSpec, *, num_classes: int):
        """
        Args:
            input_shape: channels, height and width of the RoI feature, which is not used.
            mask_shape: shape of the mask logits; not used.
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
        self,
        features: torch.Tensor,
        mask_logits: torch.Tensor,
        classes: torch.Tensor,
        scalars: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Same as :meth:`MaskIoUHead.forward`; one value for all classes, without a gradient."""
        masks = select_class_masks(mask_logits.detach(), classes).sigmoid()
        return mask_confidence(masks)[:, None].expand(-1, self.num_classes)


def has_training(name: str) -> bool:
    """Whether the MaskIoU head of this name in the registry is trained or fitted."""
    return not issubclass(ROI_MASKIOU_HEAD_REGISTRY.get(name), MaskConfidenceHead)


def num_scalars(norm: ScalarNorm | None) -> int:
    return 0 if norm is None else len(norm.mean)


def with_scalars(
    x: torch.Tensor, scalars: torch.Tensor | None, norm: ScalarNorm | None
) -> torch.Tensor:
    """Appends normalized scalars to vectors (N, C), if the head uses scalars."""
    return x if norm is None else torch.cat([x, norm(scalars).to(x.dtype)], dim=1)


def check_pooling(input_shape: ShapeSpec, mask_shape: ShapeSpec) -> None:
    """Rejects masks that cannot be pooled to the size of the feature.

    Raises:
        ValueError: if the mask's size is not a multiple of the feature's.
    """
    if mask_shape.height % input_shape.height or mask_shape.width % input_shape.width:
        raise ValueError(
            f"masks of {mask_shape.height} x {mask_shape.width} cannot be pooled to RoI "
            f"features of {input_shape.height} x {input_shape.width}"
        )


def add_fcs(head: nn.Module, size: int, fc_dims: list[int], num_classes: int) -> list[nn.Linear]:
    """Adds fully connected layers ``maskiou_fc1...`` and the output ``maskiou`` to a head.

    Args:
        head: modified in place.
        size: size of the input.
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


def build_maskiou_head(cfg, feature: ShapeSpec) -> nn.Module:
    """Builds the MaskIoU head named by ``cfg.MODEL.ROI_MASKIOU_HEAD.NAME``.

    Args:
        cfg: the config.
        feature: shape of the mask head's RoI feature. The head itself is built for the feature
            that it uses, which may be finer, or the mask head's own.
    """
    head = ROI_MASKIOU_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASKIOU_HEAD.NAME)
    if head.uses_mask_features and cfg.MODEL.ROI_MASK_HEAD.NUM_CONV > 0:
        channels, scale = cfg.MODEL.ROI_MASK_HEAD.CONV_DIM, 1
    else:
        channels = feature.channels
        scale = INPUT_DESIGNS[cfg.MODEL.ROI_MASKIOU_HEAD.INPUT].feature_scale
    shape = ShapeSpec(channels=channels, height=feature.height * scale, width=feature.width * scale)
    agnostic = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK
    mask_channels = 1 if agnostic else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return head(cfg, shape, mask_shape(feature, mask_channels))


def mask_shape(feature: ShapeSpec, channels: int) -> ShapeSpec:
    """Returns the shape of the mask logits: Detectron2's deconvolution doubles the feature's size.

    Masks of other mask heads may be larger: heads pool what they are given.
    """
    return ShapeSpec(channels=channels, height=2 * feature.height, width=2 * feature.width)


def after_res5(declared: ShapeSpec) -> ShapeSpec:
    """Returns the true shape of C4's RoI features.

    ``Res5ROIHeads`` declares the size before res5, whose stride halves it.
    """
    return ShapeSpec(
        channels=declared.channels, height=declared.height // 2, width=declared.width // 2
    )
