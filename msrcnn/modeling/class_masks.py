"""Predicts the mask of each detection for its own class, not those for all classes."""

from collections.abc import Callable

import torch
from detectron2.layers import Conv2d
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from torch import nn

from .batch_norms import has_plain_weight


class ClassMaskPredictor(nn.Module):
    """Takes the place of a mask head's last convolution, of 1 x 1.

    Attributes:
        classes: int64 tensor of shape (N,) while the head runs on N detections, otherwise ``None``.
    """

    def __init__(self, conv: nn.Conv2d):
        """
        Args:
            conv: the convolution, whose parameters are used.
        """
        super().__init__()
        self.conv = conv
        self.classes: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: features of shape (N, channels, H, W).

        Returns:
            Mask logits of shape (N, 1, H, W), as a class-agnostic head returns them. Without
            ``classes``, those of all classes.
        """
        if self.classes is None:
            return self.conv(x)
        weight = self.conv.weight[self.classes, :, 0, 0]
        masks = torch.bmm(weight[:, None], x.flatten(2))
        if self.conv.bias is not None:
            masks = masks + self.conv.bias[self.classes, None, None]
        return masks.unflatten(2, x.shape[2:])

    def take_classes(self, head: nn.Module, inputs: tuple) -> None:
        """Takes the classes from a call of the mask head with RoI features and detections."""
        detections = inputs[1] if len(inputs) > 1 else ()
        if detections and all(each.has("pred_classes") for each in detections):
            self.classes = torch.cat([each.pred_classes for each in detections])

    def forget_classes(self, *_: object) -> None:
        self.classes = None


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
        conv = getattr(head, "predictor", None)
        if not isinstance(head, BaseMaskRCNNHead) or _needs_all_masks(head) or not _is_last(conv):
            continue
        predictor = ClassMaskPredictor(conv)
        replace(head, "predictor", predictor)
        hooks.append(head.register_forward_pre_hook(predictor.take_classes))
        hooks.append(head.register_forward_hook(predictor.forget_classes, always_call=True))
    return hooks


def _needs_all_masks(head: BaseMaskRCNNHead) -> bool:
    maskiou_head = getattr(head, "maskiou_head", None)
    return maskiou_head is not None and getattr(maskiou_head, "needs_all_masks", True)


def _is_last(conv: nn.Module | None) -> bool:
    """Whether a layer is the convolution at the end of Detectron2's mask head."""
    return (
        has_plain_weight(conv, Conv2d)
        and conv.kernel_size == (1, 1)
        and conv.norm is None
        and conv.activation is None
        and conv.out_channels > 1
    )
