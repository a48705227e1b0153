"""Models of github.com/zjhuang22/maskscoring_rcnn, by the authors, and of maskrcnn-benchmark.

The former is a fork of the latter. Conventions, from ``config/defaults.py`` and
``configs/e2e_ms_rcnn_R_50_FPN_1x.yaml``: RoIAlign without the half-pixel shift and with 2 x 2
samples; boxes (x0, y0, x1, y1) that include the last pixel, so that the width is ``x1 - x0 + 1``;
anchors rounded to pixels; frozen batch normalization with epsilon 0; 81 outputs, background first.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np
from torch import Tensor

from ...errors import UserError
from ..expected_images import ExpectedImages
from .class_order import BackgroundFirst
from .source import DETECTOR_CONFIG, MASKIOU_HEAD, SourceModel, pooler_config

STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SCALE = 8  # side of an anchor, in strides
ASPECT_RATIOS = (0.5, 1.0, 2.0)
CAFFE_BGR = ExpectedImages("BGR", (102.9801, 115.9465, 122.7717))


def cell_anchors(stride: int) -> list[list[float]]:
    """Returns the anchors of one cell of a feature map, as in maskrcnn-benchmark and Detectron.

    A cell is stretched to the aspect ratio and rounded before it is scaled to the anchor's size, so
    the actual aspect ratios differ between feature maps.

    Args:
        stride: stride of the feature map, in pixels.

    Returns:
        One box (x0, y0, x1, y1) per aspect ratio, including the last pixel.
    """
    anchors = []
    for ratio in ASPECT_RATIOS:
        width = np.round(np.sqrt(stride**2 / ratio))
        height = np.round(width * ratio)  # rounds half to even
        center = (stride - 1) / 2
        x, y = (float(ANCHOR_SCALE * side - 1) / 2 for side in (width, height))
        anchors.append([center - x, center - y, center + x, center + y])
    return anchors


class MaskScoringRCNN(SourceModel):
    """A Mask Scoring R-CNN or Mask R-CNN of maskrcnn-benchmark, with a ResNet FPN backbone."""

    option = "maskscoring_rcnn"
    title = "the authors' maskscoring_rcnn (maskrcnn-benchmark)"
    styles: ClassVar = {"caffe": CAFFE_BGR, "pytorch": CAFFE_BGR}
    ignored = r".*\.num_batches_tracked|rpn\.anchor_generator\.cell_anchors\.\d+"

    @staticmethod
    def recognizes(names: set[str]) -> bool:
        starts = ("backbone.body.stem.", "roi_heads.box.", "roi_heads.mask.", "roi_heads.maskiou.")
        return any(name.startswith(starts) for name in names)

    @property
    def modules(self) -> dict[str, str]:
        mask, maskiou = "roi_heads.mask_head", "roi_heads.maskiou.feature_extractor"
        return {
            **{f"backbone.fpn_lateral{i + 1}": f"backbone.fpn.fpn_inner{i}" for i in range(1, 5)},
            **{f"backbone.fpn_output{i + 1}": f"backbone.fpn.fpn_layer{i}" for i in range(1, 5)},
            "proposal_generator.rpn_head.conv": "rpn.head.conv",
            "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
            "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
            "roi_heads.box_head.fc1": "roi_heads.box.feature_extractor.fc6",
            "roi_heads.box_head.fc2": "roi_heads.box.feature_extractor.fc7",
            "roi_heads.box_predictor.cls_score": "roi_heads.box.predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred": "roi_heads.box.predictor.bbox_pred",
            **{
                f"{mask}.mask_fcn{i}": f"roi_heads.mask.feature_extractor.mask_fcn{i}"
                for i in range(1, 5)
            },
            f"{mask}.deconv": "roi_heads.mask.predictor.conv5_mask",
            f"{mask}.predictor": "roi_heads.mask.predictor.mask_fcn_logits",
            **{f"{MASKIOU_HEAD}.maskiou_fcn{i}": f"{maskiou}.maskiou_fcn{i}" for i in range(1, 5)},
            **{f"{MASKIOU_HEAD}.maskiou_fc{i}": f"{maskiou}.maskiou_fc{i}" for i in (1, 2)},
            f"{MASKIOU_HEAD}.maskiou": "roi_heads.maskiou.predictor.maskiou",
        }

    def resnet_name(self, name: str) -> str:
        return f"backbone.body.{'' if name.startswith('layer') else 'stem.'}{name}"

    @cached_property
    def class_order(self) -> BackgroundFirst:
        return BackgroundFirst(self.num_outputs)

    @property
    def default_style(self) -> str:
        return "caffe"

    @property
    def bn_eps(self) -> float:
        return 0.0

    def config(self) -> dict:
        return {
            **DETECTOR_CONFIG,
            **pooler_config("ROIAlign", sampling_ratio=2),
            "MODEL.ANCHOR_GENERATOR": {
                "NAME": "GivenAnchorGenerator",
                "OFFSET": 0.0,
                "CELL_ANCHORS": [self._cell_anchors(i) for i in range(len(STRIDES))],
            },
            "MODEL.RPN.SMOOTH_L1_BETA": 1 / 9,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
        }

    def _cell_anchors(self, level: int) -> list[list[float]]:
        """Returns the anchors in the file or, if there are none, those of the published config."""
        name = f"rpn.anchor_generator.cell_anchors.{level}"
        anchors: Tensor | None = self.parameters.get(name)
        if anchors is None:
            return cell_anchors(STRIDES[level])
        if anchors.ndim != 2 or anchors.shape[1] != 4:
            raise UserError(
                f"{name} has shape {tuple(anchors.shape)}, expected (number of anchors, 4)"
            )
        return anchors.tolist()
