"""A mask head of your own that also scores its masks, here of 56 x 56 instead of 28 x 28.

Run any msrcnn command with it; only the name in the config is new:

    python examples/own_mask_head.py train --config-file quick/shapes_ms_rcnn_R_18_FPN.yaml \
        MODEL.ROI_MASK_HEAD.NAME FineMaskHead OUTPUT_DIR output/own_mask_head
"""

from detectron2.config import configurable
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead
from torch import nn

from msrcnn.cli import main
from msrcnn.modeling import with_mask_scoring


@ROI_MASK_HEAD_REGISTRY.register()
@with_mask_scoring
class FineMaskHead(BaseMaskRCNNHead):
    @configurable
    def __init__(self, input_shape, *, num_classes, dim, **kwargs):
        super().__init__(**kwargs)
        self.conv = nn.Conv2d(input_shape.channels, dim, kernel_size=3, padding=1)
        self.up = nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=4)
        self.predictor = nn.Conv2d(dim, num_classes, kernel_size=1)

    @classmethod
    def from_config(cls, cfg, input_shape):
        sizes = {"num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES, "input_shape": input_shape}
        return {**super().from_config(cfg, input_shape), **sizes, "dim": 128}

    def layers(self, x):  # RoI features (N, C, 14, 14) to mask logits (N, num_classes, 56, 56)
        return self.predictor(self.up(self.conv(x).relu()).relu())


if __name__ == "__main__":
    main()
