"""The base class for models of other libraries, and what can be inferred from their parameters."""

import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar

import torch
import torchvision
from torch import Tensor
from torchvision.models.resnet import BasicBlock, Bottleneck

from ...errors import UserError
from ...modeling.deform_resnet import NUM_BLOCKS
from ..class_layers import CLASSIFIER, MASKIOU_HEAD
from ..expected_images import ExpectedImages
from ..torchvision_weights import convert_torchvision_resnet
from .class_order import BackgroundLast

# By type of block and number of blocks per stage.
DEPTHS = {
    (BasicBlock if depth < 50 else Bottleneck, blocks): depth
    for depth, blocks in NUM_BLOCKS.items()
}
# Config keys that equal the number of outputs of a layer.
WIDTHS = {
    "MODEL.FPN.OUT_CHANNELS": "backbone.fpn_output2",
    "MODEL.ROI_BOX_HEAD.CONV_DIM": "roi_heads.box_head.conv1",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "roi_heads.box_head.fc1",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "roi_heads.mask_head.mask_fcn1",
    "MODEL.ROI_MASKIOU_HEAD.CONV_DIM": f"{MASKIOU_HEAD}.maskiou_fcn1",
    "MODEL.ROI_MASKIOU_HEAD.FC_DIM": f"{MASKIOU_HEAD}.maskiou_fc1",
}

# Common to the detectors of all libraries.
DETECTOR_CONFIG = {
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,
    "MODEL.RPN.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_HEADS.NMS_TYPE": "nms",
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": [10.0, 10.0, 5.0, 5.0],
    "INPUT.MIN_SIZE_TRAIN": [800],
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "TEST.DETECTIONS_PER_IMAGE": 100,
}


def pooler_config(pooler_type: str, sampling_ratio: int) -> dict:
    """Returns the config of RoIAlign for box head and mask head, by dotted key."""
    pooler = {"POOLER_TYPE": pooler_type, "POOLER_SAMPLING_RATIO": sampling_ratio}
    heads = ("MODEL.ROI_BOX_HEAD", "MODEL.ROI_MASK_HEAD")
    return {f"{head}.{key}": value for head in heads for key, value in pooler.items()}


class SourceModel(ABC):
    """A model of another library: its parameters, and the library's names and conventions.

    Names of parameters are the library's, unless stated otherwise.

    Attributes:
        option: the library, as in ``SOURCES``.
        title: the kind of model, for messages.
        styles: images by style. The style says which convolution of a ResNet block has the stride,
            the first 1 x 1 one ("caffe") or the 3 x 3 one ("pytorch"). Neither the style nor the
            normalization of images, which depends on it, can be inferred from a checkpoint.
        ignored: a pattern of entries that are not parameters.
        part: prefix of Detectron2's names of the parameters, if this is not a whole detector.
    """

    option: str
    title: str
    styles: ClassVar[dict[str, ExpectedImages]]
    ignored = r".*\.num_batches_tracked"
    part = ""

    def __init__(
        self, parameters: dict[str, Tensor], config_text: str = "", *, all_classes: bool = False
    ):
        """
        Args:
            parameters: all tensors of the file, by name.
            config_text: the library's config, if the file contains it.
            all_classes: the outputs are classes also if they are as many as COCO's category ids.
        """
        self.parameters = parameters
        self.config_text = config_text
        self.all_classes = all_classes

    @staticmethod
    @abstractmethod
    def recognizes(names: set[str]) -> bool:
        """Returns whether the parameter names of a file are those of such a model."""

    @property
    @abstractmethod
    def modules(self) -> dict[str, str]:
        """The library's names of the modules outside the ResNet, by Detectron2's names."""

    @abstractmethod
    def resnet_name(self, name: str) -> str:
        """Returns the library's name of a ResNet parameter, or its prefix, given torchvision's."""

    @abstractmethod
    def config(self) -> dict:
        """Returns the library's conventions as Detectron2's config keys, dotted.

        A value may be a dict, which replaces the whole config node.
        """

    @cached_property
    def class_order(self) -> BackgroundLast:
        """The order of the outputs of class-dependent layers."""
        return BackgroundLast(self.num_outputs)

    @property
    def default_style(self) -> str:
        """The style to use if the user gives none."""
        return "pytorch"

    @property
    def bn_eps(self) -> float:
        """The epsilon of the backbone's batch normalization."""
        return 1e-5

    @property
    def scores_masks(self) -> bool:
        """Whether the file contains a MaskIoU head, or a part of it."""
        heads = tuple(f"{m}." for name, m in self.modules.items() if name.startswith(MASKIOU_HEAD))
        return bool(heads) and any(name.startswith(heads) for name in self.parameters)

    @property
    def num_outputs(self) -> int:
        """The number of the classifier's outputs, with background; 81 (COCO) if it is missing."""
        return self._rows(CLASSIFIER) or 81

    def parameter_name(self, name: str) -> str:
        """Returns the library's name of a parameter, given Detectron2's."""
        if name in self._resnet_names:
            return self._resnet_names[name]
        module, _, parameter = name.rpartition(".")
        return f"{self.modules[module]}.{parameter}"

    def is_ignored(self, name: str) -> bool:
        """Returns whether an entry of the file is not a parameter of the model."""
        return re.fullmatch(self.ignored, name) is not None

    def sizes(self) -> dict:
        """Infers depth and widths from the shapes, as Detectron2's config keys, dotted.

        Raises:
            UserError: if the backbone is not a ResNet that Detectron2 supports.
        """
        block, blocks = self._resnet
        if self._resnet not in DEPTHS:
            raise UserError(
                f"the stages of the backbone have {', '.join(map(str, blocks))} blocks; supported "
                f"are ResNets of depth {', '.join(map(str, sorted(set(DEPTHS.values()))))}"
            )
        # (channels inside a block, channels per group, 3, 3)
        inner = self._resnet_shape("layer1.0.conv2.weight", (64, 64, 3, 3))
        last = "layer1.0.bn3.weight" if block is Bottleneck else "layer1.0.bn2.weight"
        groups = inner[0] // inner[1] if block is Bottleneck else 1
        sizes = {
            "MODEL.RESNETS.DEPTH": DEPTHS[self._resnet],
            "MODEL.RESNETS.NUM_GROUPS": groups,
            "MODEL.RESNETS.WIDTH_PER_GROUP": inner[0] // groups,
            "MODEL.RESNETS.STEM_OUT_CHANNELS": self._resnet_shape("bn1.weight", (64,))[0],
            "MODEL.RESNETS.RES2_OUT_CHANNELS": self._resnet_shape(last, (64 * block.expansion,))[0],
        }
        found = {key: self._rows(module) for key, module in WIDTHS.items()}
        return {**sizes, **{key: width for key, width in found.items() if width}}

    @cached_property
    def _resnet(self) -> tuple[type, tuple[int, ...]]:
        """The type of the ResNet's blocks, and the number of blocks per stage."""
        blocks, bottleneck = [], False
        for stage in range(1, 5):
            block = re.compile(re.escape(self.resnet_name(f"layer{stage}.")) + r"(\d+)(.*)")
            inside = [found for found in map(block.fullmatch, self.parameters) if found]
            blocks.append(max((int(found[1]) for found in inside), default=-1) + 1)
            bottleneck |= any(found[2] == ".conv3.weight" for found in inside)
        return (Bottleneck if bottleneck else BasicBlock), tuple(blocks)

    @cached_property
    def _resnet_names(self) -> dict[str, str]:
        """The library's names of the ResNet's parameters, by Detectron2's names."""
        with torch.device("meta"):
            theirs = torchvision.models.ResNet(*self._resnet).state_dict()
        names = convert_torchvision_resnet({name: self.resnet_name(name) for name in theirs})
        return {f"backbone.bottom_up.{ours}": name for ours, name in names.items()}

    def _resnet_shape(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        # Missing parameters and wrong shapes are reported later, all at once.
        found = self.parameters.get(self.resnet_name(name))
        return tuple(found.shape) if found is not None and found.ndim == len(default) else default

    def _rows(self, module: str) -> int | None:
        """Returns the number of outputs of a layer, by Detectron2's name, if the layer exists."""
        if module not in self.modules:
            return None
        found = self.parameters.get(f"{self.modules[module]}.weight")
        return found.shape[0] if found is not None and found.ndim > 1 else None
