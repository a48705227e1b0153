"""Makes untrained models propose as many boxes as trained ones, for benchmarks."""

import torch
from detectron2.modeling import GeneralizedRCNN


def keep_anchors(model: GeneralizedRCNN) -> None:
    """Makes an untrained RPN propose its anchors; shifted at random, few would be in the image."""
    torch.nn.init.zeros_(model.proposal_generator.rpn_head.anchor_deltas.weight)
