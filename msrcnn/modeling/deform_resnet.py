"""ResNet with deformable convolutions (DCN v1, v2), the backbone of the paper's best models.

Detectron2's own deformable layers need its compiled part and a GPU. These stand on torchvision's
operator, which trains on CPU and CUDA, and they are the only path, also where the compiled part
is there. Parameters keep Detectron2's names and meaning, so that its checkpoints load unchanged.
"""

import torch
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY
from torch import nn
from torch.nn import functional as F
from torchvision.ops import deform_conv2d

from .roi_heads import MaskScoringRes5ROIHeads

NUM_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
RES5 = 3  # index of the stage


class DeformConv2d(Conv2d):
    """A convolution whose kernel points are shifted at every place, and weighted (v2)."""

    def forward(
        self, x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            x: tensor of shape (N, in_channels, H, W).
            offset: shift of each kernel point in pixels, y before x, of shape
                (N, G * K * 2, H', W'); G deformable groups, K points of the kernel.
            mask: weight of each kernel point, of shape (N, G * K, H', W'); None for all 1.

        Returns:
            Tensor of shape (N, out_channels, H', W'), normalised and activated.
        """
        # The operator has kernels for few types; under autocast all but the weight are halves.
        dtype = self.weight.dtype
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
        if self.norm is not None:
            y = self.norm(y)
        if self.activation is not None:
            y = self.activation(y)
        return y


class _DeformConv2:
    """For residual blocks: makes their ``conv2`` deformable, steered by a ``conv2_offset``."""

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
            deform_modulated: also weight the kernel points (DCN v2).
            deform_num_groups: groups of channels with offsets of their own.
            **kwargs: of the block that is made deformable.
        """
        super().__init__(in_channels, out_channels, **kwargs)
        self._make_conv2_deformable(deform_modulated, deform_num_groups)

    def _make_conv2_deformable(self, modulated: bool, num_groups: int) -> None:
        conv = self.conv2
        num_points = num_groups * conv.kernel_size[0] * conv.kernel_size[1]
        geometry = {name: getattr(conv, name) for name in ("stride", "padding", "dilation")}
        # Two shifts of each kernel point, then, if modulated, the weights of all points.
        self.offset_channels = 2 * num_points
        self.conv2_offset = Conv2d(
            conv.in_channels,
            (3 if modulated else 2) * num_points,
            kernel_size=conv.kernel_size,
            **geometry,
        )
        # Not deformed to begin with.
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
        self.conv2.weight = conv.weight  # already initialised

    def _deformed_conv2(self, x: torch.Tensor) -> torch.Tensor:
        steering = self.conv2_offset(x)
        offset = steering[:, : self.offset_channels]
        mask = steering[:, self.offset_channels :]
        return self.conv2(x, offset, mask.sigmoid() if mask.shape[1] else None)

    def _add_shortcut(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return F.relu_(out + (x if self.shortcut is None else self.shortcut(x)))


class DeformBasicBlock(_DeformConv2, BasicBlock):
    """The block of ResNet-18 and 34, its second convolution deformable."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu_(self.conv1(x))
        return self._add_shortcut(x, self._deformed_conv2(out))


class DeformBottleneckBlock(_DeformConv2, BottleneckBlock):
    """The block of ResNet-50, 101 and 152, its 3 x 3 convolution deformable."""

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
        raise ValueError("MODEL.RESNETS.DEFORM_ON_PER_STAGE must have 4 entries, res2 to res5")
    if resnets.DEPTH < 50:
        needed = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
        for key, value in needed.items():
            if resnets[key] != value:
                raise ValueError(
                    f"MODEL.RESNETS.{key} is {resnets[key]}; ResNet-{resnets.DEPTH} needs {value}"
                )


def build_stage(cfg, index: int, *, stride: int, dilation: int = 1) -> list[CNNBlockBase]:
    """The blocks of one stage of a ResNet, deformable where the config says so.

    Args:
        cfg: a complete config; reads ``MODEL.RESNETS``.
        index: 0 for res2, to 3 for res5.
        stride: of the first block.
        dilation: of the 3 x 3 convolutions; bottleneck blocks only.

    Raises:
        ValueError: if ``MODEL.RESNETS`` asks for what cannot be built.
    """
    _check(cfg)
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


@BACKBONE_REGISTRY.register()
def build_deform_resnet_backbone(cfg, input_shape: ShapeSpec) -> ResNet:
    """A ResNet, its stages deformable where ``MODEL.RESNETS.DEFORM_ON_PER_STAGE`` says so.

    Follows the keys ``MODEL.RESNETS`` and ``MODEL.BACKBONE.FREEZE_AT`` as Detectron2's
    ``build_resnet_backbone`` does, and takes deformable stages of ResNet-18 and 34 too.

    Raises:
        ValueError: if ``MODEL.RESNETS`` asks for what cannot be built.
    """
    resnets = cfg.MODEL.RESNETS
    stem = BasicStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    # A dilated res5 keeps the resolution of res4.
    dilation = resnets.RES5_DILATION
    stages = [build_stage(cfg, index, stride=2 if index else 1) for index in range(RES5)]
    stages.append(build_stage(cfg, RES5, stride=2 // dilation, dilation=dilation))
    return ResNet(
        stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT
    )


@BACKBONE_REGISTRY.register()
def build_deform_resnet_fpn_backbone(cfg, input_shape: ShapeSpec) -> FPN:
    """A feature pyramid, p2 to p6, on :func:`build_deform_resnet_backbone`.

    Raises:
        ValueError: if ``MODEL.RESNETS`` asks for what cannot be built.
    """
    return FPN(
        bottom_up=build_deform_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@ROI_HEADS_REGISTRY.register()
class DeformRes5ROIHeads(MaskScoringRes5ROIHeads):
    """C4's ROI heads with a res5 that may be deformable, and of any depth."""

    @classmethod
    def _build_res5_block(cls, cfg) -> tuple[nn.Sequential, int]:
        # C4 has no dilated res5: it works on pooled regions, and halves them.
        blocks = build_stage(cfg, RES5, stride=2)
        return nn.Sequential(*blocks), blocks[-1].out_channels
