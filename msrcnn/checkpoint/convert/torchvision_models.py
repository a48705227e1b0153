"""torchvision's Mask R-CNN models, to add mask scoring to, and its ResNets, to train from.

Conventions of the detectors, from ``torchvision.models.detection``: normalized RGB images; RoIAlign
without the half-pixel shift and with 2 x 2 samples; continuous box coordinates; anchors rounded to
pixels; class outputs by COCO's category ids, with background 0 and ten of 1 to 90 unused.
"""

import re
from functools import cached_property
from typing import ClassVar

from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from torchvision.models.detection.anchor_utils import AnchorGenerator

from ..class_layers import CLASSIFIER
from ..expected_images import IMAGENET_RGB
from .class_order import BackgroundFirst
from .source import DETECTOR_CONFIG, SourceModel, pooler_config

ANCHOR_SIZES = ((32,), (64,), (128,), (256,), (512,))
ASPECT_RATIOS = ((0.5, 1.0, 2.0),) * len(ANCHOR_SIZES)
COCO_OUTPUTS = 91
COCO_IDS = [category["id"] for category in COCO_CATEGORIES if category["isthing"]]


def cell_anchors() -> list[list[list[float]]]:
    """Returns torchvision's anchors (x0, y0, x1, y1) of one cell of each feature map."""
    return [level.tolist() for level in AnchorGenerator(ANCHOR_SIZES, ASPECT_RATIOS).cell_anchors]


class TorchvisionMaskRCNN(SourceModel):
    """``maskrcnn_resnet50_fpn``, and Mask R-CNNs with the same modules and another ResNet.

    Both the current names and those before torchvision 0.13, as in the published file, are read.
    """

    option = "torchvision"
    title = "torchvision's Mask R-CNN"
    styles: ClassVar = {"pytorch": IMAGENET_RGB}

    @staticmethod
    def recognizes(names: set[str]) -> bool:
        return any(re.match(r"backbone\.fpn\.(inner|layer)_blocks\.", name) for name in names)

    @property
    def modules(self) -> dict[str, str]:
        conv = "" if self._has_old_names else ".0"  # wrapped in a Conv2dNormActivation since 0.13
        return {
            **{
                f"backbone.fpn_{ours}{i + 2}": f"backbone.fpn.{theirs}_blocks.{i}{conv}"
                for ours, theirs in (("lateral", "inner"), ("output", "layer"))
                for i in range(4)
            },
            "proposal_generator.rpn_head.conv": f"rpn.head.conv{conv}{conv}",
            "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
            "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
            "roi_heads.box_head.fc1": "roi_heads.box_head.fc6",
            "roi_heads.box_head.fc2": "roi_heads.box_head.fc7",
            "roi_heads.box_predictor.cls_score": "roi_heads.box_predictor.cls_score",
            "roi_heads.box_predictor.bbox_pred": "roi_heads.box_predictor.bbox_pred",
            **{
                f"roi_heads.mask_head.mask_fcn{i + 1}": "roi_heads.mask_head."
                + (f"mask_fcn{i + 1}" if self._has_old_names else f"{i}.0")
                for i in range(4)
            },
            "roi_heads.mask_head.deconv": "roi_heads.mask_predictor.conv5_mask",
            "roi_heads.mask_head.predictor": "roi_heads.mask_predictor.mask_fcn_logits",
        }

    def resnet_name(self, name: str) -> str:
        return f"backbone.body.{name}"

    @cached_property
    def class_order(self) -> BackgroundFirst:
        coco = self.num_outputs == COCO_OUTPUTS and not self.all_classes
        return BackgroundFirst(self.num_outputs, COCO_IDS if coco else None)

    @property
    def num_outputs(self) -> int:
        return self._rows(CLASSIFIER) or COCO_OUTPUTS

    @property
    def bn_eps(self) -> float:
        """0 for the published file, as torchvision sets it when loading that file; else 1e-5."""
        frozen = not any(name.endswith("num_batches_tracked") for name in self.parameters)
        return 0.0 if self._has_old_names and frozen else 1e-5

    def config(self) -> dict:
        return {
            **DETECTOR_CONFIG,
            **pooler_config("ROIAlign", sampling_ratio=2),
            "MODEL.ANCHOR_GENERATOR": {
                "NAME": "GivenAnchorGenerator",
                "OFFSET": 0.0,
                "CELL_ANCHORS": cell_anchors(),
            },
            "MODEL.RPN.SMOOTH_L1_BETA": 1 / 9,
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1 / 9,
        }

    @cached_property
    def _has_old_names(self) -> bool:
        old = re.compile(r"backbone\.fpn\.(inner|layer)_blocks\.\d+\.(weight|bias)")
        return any(old.fullmatch(name) for name in self.parameters)


class TorchvisionMaskRCNNV2(TorchvisionMaskRCNN):
    """``maskrcnn_resnet50_fpn_v2``: more convolutions, with batch norm except in the RPN."""

    title = "torchvision's Mask R-CNN v2"

    @staticmethod
    def recognizes(names: set[str]) -> bool:
        return any(re.match(r"backbone\.fpn\.\w+_blocks\.\d+\.1\.", name) for name in names)

    @property
    def modules(self) -> dict[str, str]:
        modules = super().modules
        del modules["proposal_generator.rpn_head.conv"], modules["roi_heads.box_head.fc2"]
        modules["roi_heads.box_head.fc1"] = "roi_heads.box_head.5"
        for i in range(2):
            modules[f"proposal_generator.rpn_head.conv.conv{i}"] = f"rpn.head.conv.{i}.0"
        for i in range(4):
            modules[f"roi_heads.box_head.conv{i + 1}"] = f"roi_heads.box_head.{i}.0"
        normalized = re.compile(r"backbone\.fpn|roi_heads\.box_head\.conv|.*mask_fcn")
        norms = {
            f"{ours}.norm": f"{theirs.removesuffix('.0')}.1"
            for ours, theirs in modules.items()
            if normalized.match(ours)
        }
        return {**modules, **norms}

    def config(self) -> dict:
        return {
            **super().config(),
            "MODEL.FPN.NORM": "FrozenBN",
            "MODEL.RPN.CONV_DIMS": [-1, -1],
            "MODEL.ROI_BOX_HEAD.NUM_CONV": 4,
            "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
            "MODEL.ROI_BOX_HEAD.NORM": "FrozenBN",
            "MODEL.ROI_MASK_HEAD.NORM": "FrozenBN",
        }


class TorchvisionResNet(SourceModel):
    """An ImageNet ResNet or ResNeXt, as the backbone of an MS R-CNN to be trained."""

    option = "torchvision"
    title = "torchvision's ResNet"
    styles: ClassVar = {"pytorch": IMAGENET_RGB}
    ignored = r".*\.num_batches_tracked|fc\.(weight|bias)"
    part = "backbone.bottom_up."
    scores_masks = True

    @staticmethod
    def recognizes(names: set[str]) -> bool:
        return any(name.startswith("layer1.") for name in names)

    @property
    def modules(self) -> dict[str, str]:
        return {}

    def resnet_name(self, name: str) -> str:
        return name

    def config(self) -> dict:
        return {}
