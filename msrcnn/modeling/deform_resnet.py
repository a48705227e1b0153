"""ResNet with deformable convolutions (DCN v1 and v2), the backbone of the paper's best models.

Detectron2's deformable layers require its compiled extension and a GPU. The layers in this file use
torchvision's ``deform_conv2d``, which supports training on CPU and CUDA, and are always used, even
if the extension is available. Parameters have the same names and meaning as in Detectron2, so its
checkpoints load unchanged.
"""

import torch
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from .fpn import build_fpn

NUM_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
RES5 = 3  # stage index


class DeformConv2d(Conv2d):
    """A deformable convolution (DCN v1), or a modulated one (v2) if it is given a mask."""

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            x: tensor of shape (N, in_channels, H, W).
            offset: tensor of shape (N, G * K * 2, H', W'), the offset of each kernel point in
                pixels, y before x, for G deformable groups and K kernel points.
            mask: tensor of shape (N, G * K, H', W'), the weight of each kernel point; ``None`` for
                weights of 1.

        Returns:
            Tensor of shape (N, out_channels, H', W'), after normalization and activation; NaN
            where an offset is NaN.
        """
        # deform_conv2d supports few dtypes; under autocast, all but the weight are half precision.
        dtype = self.weight.dtype
        nowhere = None
        if offset.device.type == "cpu":
            # On the CPU, deform_conv2d reads outside of the image for a NaN, and can crash.
            nan = offset.isnan()
            if nan.any():
                nowhere, offset = nan.any(dim=1, keepdim=True), offset.masked_fill(nan, 0)
        y = deform_conv2d(
            x.to(dtype),
            offset.to(dtype),
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            None if mask is None else mask.to(dtype),
        ).to(x.dtype)
        if nowhere is not None:
            y = y.masked_fill(nowhere, torch.nan)
        if self.norm is not None:
            y = self.norm(y)
        if self.activation is not None:
            y = self.activation(y)
        return y


class _DeformConv2:
    """A mixin for residual blocks that makes ``conv2`` deformable and adds ``conv2_offset``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
        **kwargs,
    ):
        """
        Args:
            in_channels: number of input channels.
            out_channels: number of output channels.
            deform_modulated: also predict weights of the kernel points (DCN v2).
            deform_num_groups: number of channel groups with separate offsets.
            **kwargs: other arguments of the residual block.
        """
        super().__init__(in_channels, out_channels, **kwargs)
        self._make_conv2_deformable(deform_modulated, deform_num_groups)

    def _make_conv2_deformable(self, modulated: bool, num_groups: int) -> None:
        conv = self.conv2
        num_points = num_groups * conv.kernel_size[0] * conv.kernel_size[1]
        geometry = {name: getattr(conv, name) for name in ("stride", "padding", "dilation")}
        # All offsets (2 per kernel point), followed by all weights if modulated.
        self.offset_channels = 2 * num_points
        self.conv2_offset = Conv2d(
            conv.in_channels,
            (3 if modulated else 2) * num_points,
            kernel_size=conv.kernel_size,
            **geometry,
        )
        # Zero offsets: training starts from an ordinary convolution.
        nn.init.zeros_(self.conv2_offset.weight)
        nn.init.zeros_(self.conv2_offset.bias)

        self.conv2 = DeformConv2d(
            conv.in_channels,
            conv.out_channels,
            kernel_size=conv.kernel_size,
            groups=conv.groups,
            bias=False,
            norm=conv.norm,
            **geometry,
        )
        self.conv2.weight = conv.weight  # already initialized

    def _deformed_conv2(self, x: torch.Tensor) -> torch.Tensor:
        offset_mask = self.conv2_offset(x)
        offset = offset_mask[:, : self.offset_channels]
        mask = offset_mask[:, self.offset_channels :]
        return self.conv2(x, offset, mask.sigmoid() if mask.shape[1] else None)

    def _add_shortcut(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return F.relu_(out + (x if self.shortcut is None else self.shortcut(x)))


class DeformBasicBlock(_DeformConv2, BasicBlock):
    """The basic block of ResNet-18 and ResNet-34 with a deformable second convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        return self._add_shortcut(x, self._deformed_conv2(out))


class DeformBottleneckBlock(_DeformConv2, BottleneckBlock):
    """The bottleneck block of ResNet-50, 101 and 152 with a deformable 3 x 3 convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        out = F.relu_(self._deformed_conv2(out))
        return self._add_shortcut(x, self.conv3(out))


def _check(cfg) -> None:
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH not in NUM_BLOCKS:
        raise ValueError(
            f"MODEL.RESNETS.DEPTH is {resnets.DEPTH}; allowed: {', '.join(map(str, NUM_BLOCKS))}"
        )
    if resnets.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is {resnets.RES5_DILATION}; allowed: 1, 2")
    if len(resnets.DEFORM_ON_PER_STAGE) != 4:
        raise ValueError("MODEL.RESNETS.DEFORM_ON_PER_STAGE must have 4 entries, for res2 to res5")
    if resnets.DEPTH < 50:
        needed = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
        for key, value in needed.items():
            if resnets[key] != value:
                raise ValueError(
                    f"MODEL.RESNETS.{key} is {resnets[key]}; ResNet-{resnets.DEPTH} needs {value}"
                )


def _stage(cfg, index: int, *, stride: int, dilation: int = 1) -> list[CNNBlockBase]:
    """Builds the blocks of one ResNet stage, deformable if the config enables it for the stage.

    Args:
        cfg: a complete config; only ``MODEL.RESNETS`` is used.
        index: stage index, from 0 (res2) to 3 (res5).
        stride: stride of the first block.
        dilation: dilation of the 3 x 3 convolutions; only used by bottleneck blocks.
    """
    resnets = cfg.MODEL.RESNETS
    deformable = resnets.DEFORM_ON_PER_STAGE[index]
    num_blocks = NUM_BLOCKS[resnets.DEPTH][index]
    out_channels = resnets.RES2_OUT_CHANNELS * 2**index
    kwargs = {"norm": resnets.NORM}
    if resnets.DEPTH < 50:
        block = DeformBasicBlock if deformable else BasicBlock
    else:
        block = DeformBottleneckBlock if deformable else BottleneckBlock
        kwargs.update(
            bottleneck_channels=resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP * 2**index,
            num_groups=resnets.NUM_GROUPS,
            stride_in_1x1=resnets.STRIDE_IN_1X1,
            dilation=dilation,
        )
    if deformable:
        kwargs.update(
            deform_modulated=resnets.DEFORM_MODULATED,
            deform_num_groups=resnets.DEFORM_NUM_GROUPS,
        )
    return ResNet.make_stage(
        block,
        num_blocks,
        in_channels=out_channels // 2 if index else resnets.STEM_OUT_CHANNELS,
        out_channels=out_channels,
        stride_per_block=[stride] + [1] * (num_blocks - 1),
        **kwargs,
    )


def build_deform_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """Builds a ResNet with the deformable stages of ``MODEL.RESNETS.DEFORM_ON_PER_STAGE``.

    It uses ``MODEL.RESNETS`` and ``MODEL.BACKBONE.FREEZE_AT`` like Detectron2's
    ``build_resnet_backbone``, and also supports deformable stages in ResNet-18 and ResNet-34.

    Raises:
        ValueError: if the values of ``MODEL.RESNETS`` are not supported.
    """
    _check(cfg)
    resnets = cfg.MODEL.RESNETS
    stem = BasicStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    # A dilated res5 has the resolution of res4.
    dilation = resnets.RES5_DILATION
    stages = [_stage(cfg, index, stride=2 if index else 1) for index in range(RES5)]
    stages.append(_stage(cfg, RES5, stride=2 // dilation, dilation=dilation))
    return ResNet(
        stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


@BACKBONE_REGISTRY.register()
def build_deform_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """Builds an FPN (p2 to p6) on top of :func:`build_deform_resnet_backbone`.

    Raises:
        ValueError: if the values of ``MODEL.RESNETS`` are not supported.
    """
    return build_fpn(cfg, build_deform_resnet_backbone(cfg, input_shape))
