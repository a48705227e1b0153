"""A MaskIoU head of your own: it compares the RoI feature inside and outside the mask.

Run any msrcnn command with it; only the name in the config is new:

    python examples/own_maskiou_head.py train --config-file quick/shapes_ms_rcnn_R_18_FPN.yaml \
        MODEL.ROI_MASKIOU_HEAD.NAME InsideOutsideHead OUTPUT_DIR output/own_maskiou_head
"""

import torch
from torch import nn

from msrcnn.cli import main
from msrcnn.modeling import ROI_MASKIOU_HEAD_REGISTRY
from msrcnn.modeling.maskiou_input import pool_class_masks


@ROI_MASKIOU_HEAD_REGISTRY.register()
class InsideOutsideHead(nn.Module):
    inputs = ("concat",)  # allowed values of MODEL.ROI_MASKIOU_HEAD.INPUT
    uses_mask_features = False  # it takes the RoI feature, not the mask head's last one

    def __init__(self, cfg, input_shape, mask_shape):
        super().__init__()
        hidden = cfg.MODEL.ROI_MASKIOU_HEAD.FC_DIM
        self.fc = nn.Linear(2 * input_shape.channels, hidden)
        self.maskiou = nn.Linear(hidden, cfg.MODEL.ROI_HEADS.NUM_CLASSES)

    def forward(self, features, mask_logits, classes, scalars=None):
        mask = pool_class_masks(mask_logits, classes, features)  # (N, 1, H, W), in [0, 1]
        parts = [(features * part).mean(dim=(2, 3)) for part in (mask, 1 - mask)]
        return self.maskiou(self.fc(torch.cat(parts, dim=1)).relu())  # (N, classes)


if __name__ == "__main__":
    main()
