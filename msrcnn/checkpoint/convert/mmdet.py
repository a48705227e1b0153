"""Models of mmdetection 2.x and 3.x, which use the same parameter names.

Conventions, from ``configs/_base_/models/mask-rcnn_r50_fpn.py`` and
``configs/ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco.py``: as in Detectron2 (RoIAlign with the half-pixel
shift and an adaptive number of samples, continuous box coordinates, background last). Backbones
have one of two styles: "caffe" for BGR images with standard deviation 1, and "pytorch" for
normalized RGB images.
"""

import re
from typing import ClassVar

from ..expected_images import IMAGENET_RGB, ExpectedImages
from .source import (
    DETECTOR_CONFIG,
    MASKIOU_HEAD,
    SourceModel,
    pooler_config,
)


class MMDetection(SourceModel):
    """A Mask Scoring R-CNN or Mask R-CNN of mmdetection, with a ResNet or ResNeXt FPN backbone."""

    option = "mmdet"
    title = "mmdetection 2.x or 3.x"
    styles: ClassVar = {
        "caffe": ExpectedImages("BGR", (103.53, 116.28, 123.675)),
        "pytorch": IMAGENET_RGB,
    }

    @staticmethod
    def recognizes(names: set[str]) -> bool:
        return any(name.startswith("roi_head.") for name in names)

    @property
    def modules(self) -> dict[str, str]:
        box, mask, maskiou = (f"roi_head.{part}_head" for part in ("bbox", "mask", "mask_iou"))
        return {
            **{f"backbone.fpn_lateral{i + 2}": f"neck.lateral_convs.{i}.conv" for i in range(4)},
            **{f"backbone.fpn_output{i + 2}": f"neck.fpn_convs.{i}.conv" for i in range(4)},
            "proposal_generator.rpn_head.conv": "rpn_head.rpn_conv",
            "proposal_generator.rpn_head.objectness_logits": "rpn_head.rpn_cls",
            "proposal_generator.rpn_head.anchor_deltas": "rpn_head.rpn_reg",
            **{f"roi_heads.box_head.fc{i + 1}": f"{box}.shared_fcs.{i}" for i in range(2)},
            "roi_heads.box_predictor.cls_score": f"{box}.fc_cls",
            "roi_heads.box_predictor.bbox_pred": f"{box}.fc_reg",
            **{f"roi_heads.mask_head.mask_fcn{i + 1}": f"{mask}.convs.{i}.conv" for i in range(4)},
            "roi_heads.mask_head.deconv": f"{mask}.upsample",
            "roi_heads.mask_head.predictor": f"{mask}.conv_logits",
            **{f"{MASKIOU_HEAD}.maskiou_fcn{i + 1}": f"{maskiou}.convs.{i}" for i in range(4)},
            **{f"{MASKIOU_HEAD}.maskiou_fc{i + 1}": f"{maskiou}.fcs.{i}" for i in range(2)},
            f"{MASKIOU_HEAD}.maskiou": f"{maskiou}.fc_mask_iou",
        }

    def resnet_name(self, name: str) -> str:
        return f"backbone.{name}"

    @property
    def default_style(self) -> str:
        """The style in the file's config or, without one, that of the published models."""
        named = re.search(r"\bstyle='(caffe|pytorch)'", self.config_text)
        if named:
            return named[1]
        return "caffe" if self.sizes()["MODEL.RESNETS.NUM_GROUPS"] == 1 else "pytorch"

    def config(self) -> dict:
        return {
            **DETECTOR_CONFIG,
            **pooler_config("ROIAlignV2", sampling_ratio=0),
            "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
            "MODEL.RPN.SMOOTH_L1_BETA": 0.0,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
        }
