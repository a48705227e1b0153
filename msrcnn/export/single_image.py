"""A model as a function of one image, in the form that PyTorch's tracer can record.

Detectron2 v0.6 has the same in ``detectron2.export``, which needs Caffe2.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.proposal_generator import proposal_utils
from detectron2.modeling.roi_heads import cascade_rcnn, fast_rcnn, mask_head
from torch import nn
from torchvision.ops import boxes as box_ops

from ..modeling import mask_scoring, maskiou_input
from ..modeling.mask_score import box_scores

# Modules that use the number of detections, which differs from image to image.
COUNTING = (fast_rcnn, mask_head, mask_scoring, maskiou_input)
SUPPRESSING = (proposal_utils, fast_rcnn)


class SingleImage(nn.Module):
    """A Mask R-CNN that takes and returns tensors."""

    def __init__(self, model: GeneralizedRCNN):
        """
        Args:
            model: a Mask R-CNN, in evaluation mode.
        """
        super().__init__()
        self.model = model.eval()

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """
        Args:
            image: tensor of shape (C, H, W), uint8 or float in [0, 255], with the channels of
                ``INPUT.FORMAT``, at the input size of the network.

        Returns:
            For N detections, under Detectron2's names: ``pred_boxes`` of shape (N, 4) in pixels of
            the image, (x0, y0, x1, y1); ``pred_classes`` and ``scores``, the box scores, of shape
            (N,); if the model has masks, ``pred_masks`` of shape (N, 1, M, M), the probabilities
            in the boxes; if it scores them, ``pred_maskiou`` and ``mask_scores`` of shape (N,).
        """
        (found,) = self.model.inference([{"image": image.float()}], do_postprocess=False)
        outputs = {
            "pred_boxes": found.pred_boxes.tensor,
            "pred_classes": found.pred_classes,
            "scores": box_scores(found),
        }
        optional = ("pred_masks", "pred_maskiou", "mask_scores")
        return outputs | {name: found.get(name) for name in optional if found.has(name)}


@contextmanager
def traceable() -> Iterator[None]:
    """Makes traces of a model valid for any image, not only for the traced one.

    The tracer records only the branch that is taken, and Python numbers as constants.
    """
    with ExitStack() as stack:
        for module in COUNTING:
            stack.enter_context(mock.patch.object(module, "len", _length, create=True))
        for module in SUPPRESSING:  # Detectron2's has a branch for very many boxes
            stack.enter_context(mock.patch.object(module, "batched_nms", _batched_nms))
        # It changes gradients only, and is a Python function, which no file can hold.
        stack.enter_context(mock.patch.object(cascade_rcnn, "_ScaleGradient", _Identity))
        yield


def _length(sized) -> int | torch.Tensor:
    return sized.__len__()  # a tensor in a trace; len() is an integer


def _batched_nms(boxes, scores, classes, iou_threshold: float) -> torch.Tensor:
    return box_ops.batched_nms(boxes.float(), scores, classes, iou_threshold)


class _Identity:
    @staticmethod
    def apply(x: torch.Tensor, scale: float) -> torch.Tensor:
        return x
