"""Predicts the mask of each detection for its own class, instead of the masks of all classes."""

from collections.abc import Callable
from contextvars import ContextVar

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead, MaskRCNNConvUpsampleHead
from torch import nn

from .batch_norms import has_plain_weight
from .mask_scoring import MaskScoring

# The classes of the detections that a mask head runs on, of shape (N,); each thread has its own.
_classes: ContextVar[torch.Tensor | None] = ContextVar("classes", default=None)


class ClassMaskPredictor(nn.Module):
    """Takes the place of a mask head's last convolution, of 1 x 1."""

    def __init__(self, conv: nn.Conv2d):
        """
        Args:
            conv: the convolution, whose parameters are used.
        """
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features of shape (N, channels, H, W).

        Returns:
            Mask logits of shape (N, 1, H, W), as a class-agnostic head returns them. If the mask
            head was not called with detections, those of all classes.
        """
        classes = _classes.get()
        if classes is None:
            return self.conv(x)
        weight = self.conv.weight[classes, :, 0, 0]
        masks = torch.bmm(weight[:, None], x.flatten(2))
        if self.conv.bias is not None:
            masks = masks + self.conv.bias[classes, None, None]
        return masks.unflatten(2, x.shape[2:])


def _take_classes(head: nn.Module, inputs: tuple) -> None:
    """Takes the classes from a call of the mask head with RoI features and detections."""
    detections = inputs[1] if len(inputs) > 1 else ()
    if detections and all(each.has("pred_classes") for each in detections):
        _classes.set(torch.cat([each.pred_classes for each in detections]))


def _forget_classes(*_: object) -> None:
    _classes.set(None)


def predict_class_masks(
    model: nn.Module, replace: Callable[[nn.Module, str, object], None]
) -> list[torch.utils.hooks.RemovableHandle]:
    """Lets mask heads compute one mask per detection, for inference only.

    With many classes, this saves most of the last layer, and its memory. Heads whose MaskIoU head
    needs the masks of all classes stay as they are, and so do mask heads of another kind.

    Args:
        model: the model.
        replace: called with a module, the name of an attribute and its new value.

    Returns:
        The hooks that were registered.
    """
    hooks = []
    for head in list(model.modules()):
        if not _is_stock(head) or _needs_all_masks(head):
            continue
        *_, conv = head
        if conv is not head.predictor or not _predicts_masks(conv):
            continue
        replace(head, "predictor", ClassMaskPredictor(conv))
        hooks.append(head.register_forward_pre_hook(_take_classes))
        hooks.append(head.register_forward_hook(_forget_classes, always_call=True))
    return hooks


def _is_stock(head: nn.Module) -> bool:
    """Whether a module is Detectron2's mask head, or that with mask scoring."""
    return (
        isinstance(head, MaskRCNNConvUpsampleHead)
        and type(head).layers is MaskRCNNConvUpsampleHead.layers
        and type(head).forward in (BaseMaskRCNNHead.forward, MaskScoring.forward)
    )


def _needs_all_masks(head: MaskRCNNConvUpsampleHead) -> bool:
    maskiou_head = getattr(head, "maskiou_head", None)
    return maskiou_head is not None and getattr(maskiou_head, "needs_all_masks", True)


def _predicts_masks(conv: nn.Module) -> bool:
    """Whether the last layer of a head computes a mask per class by a 1 x 1 convolution."""
    return (
        has_plain_weight(conv, Conv2d)
        and conv.kernel_size == (1, 1)
        and conv.norm is None
        and conv.activation is None
        and conv.out_channels > 1
    )
