"""A loss of your own for the MaskIoU head: one that overestimates cost more.

Run any msrcnn command with it; only the name in the config is new:

    python examples/own_loss.py train --config-file quick/shapes_ms_rcnn_R_18_FPN.yaml \
        MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE cautious_l2 OUTPUT_DIR output/own_loss
"""

import torch

from msrcnn.cli import main
from msrcnn.modeling import MASKIOU_LOSS_REGISTRY


@MASKIOU_LOSS_REGISTRY.register()
def cautious_l2(prediction, target, area):
    """Weighs overestimates, which put bad masks first, twice; tensors of shape (N,)."""
    error = prediction - target
    return 0.5 * error**2 * torch.where(error > 0, 2.0, 1.0)


if __name__ == "__main__":
    main()
