"""How RoI feature and predicted mask make up the MaskIoU head's input (paper, figure 3, table 1).

All designs take RoI features of shape (N, channels, H, W), mask logits of shape (N, C, M, M), or
(N, 1, M, M) for class-agnostic masks, and int64 classes of shape (N,).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F


def select_class_masks(mask_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Selects the mask of each sample's class.

    Args:
        mask_logits: tensor of shape (N, C, M, M), or (N, 1, M, M) for class-agnostic masks.
        classes: int64 tensor of shape (N,).

    Returns:
        Logits of shape (N, M, M).
    """
    if mask_logits.shape[1] == 1:
        return mask_logits[:, 0]
    return mask_logits[torch.arange(len(classes), device=mask_logits.device), classes]


def pool_masks(mask_logits: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Max-pools mask probabilities to the size of the features: (N, C, M, M) to (N, C, H, W).

    Raises:
        ValueError: if M is not a multiple of H.
    """
    if mask_logits.shape[-1] % features.shape[-1] != 0:  # 0 < M < H leaves a rest of M
        raise ValueError(
            f"masks of side {mask_logits.shape[-1]} cannot be pooled to RoI features of side "
            f"{features.shape[-1]}: their side must be a multiple"
        )
    return F.max_pool2d(mask_logits.sigmoid(), mask_logits.shape[-1] // features.shape[-1])


def pool_class_masks(
    mask_logits: torch.Tensor, classes: torch.Tensor, features: torch.Tensor
) -> torch.Tensor:
    """Max-pools the mask of each sample's class to the size of the features, (N, 1, H, W)."""
    return pool_masks(select_class_masks(mask_logits, classes)[:, None], features)


def concat(
    features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """Concatenates the RoI feature and the max-pooled mask of the target class (design a)."""
    return torch.cat([features, pool_class_masks(mask_logits, classes, features)], dim=1)


def multiply(
    features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """Multiplies the RoI feature by the max-pooled mask of the target class (design b)."""
    return features * pool_class_masks(mask_logits, classes, features)


def all_masks(
    features: torch.Tensor, mask_logits: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    """Concatenates the RoI feature and the max-pooled masks of all classes (design c)."""
    return torch.cat([features, pool_masks(mask_logits, features)], dim=1)


class InputDesign(NamedTuple):
    """A way to combine RoI feature and predicted mask.

    Attributes:
        combine: called with features, mask logits and classes.
        num_channels: computes the number of channels of the result from those of the feature and of
            the mask.
        feature_scale: size of the RoI feature relative to the mask head's.
        needs_all_masks: whether it uses the masks of other classes than the sample's.
    """

    combine: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    num_channels: Callable[[int, int], int]
    feature_scale: int = 1
    needs_all_masks: bool = False


INPUT_DESIGNS = {
    "concat": InputDesign(concat, lambda feature, mask: feature + 1),
    "multiply": InputDesign(multiply, lambda feature, mask: feature),
    "all_masks": InputDesign(all_masks, lambda feature, mask: feature + mask, needs_all_masks=True),
    # Design d: with a feature of the mask's size, the mask is not pooled.
    "high_res": InputDesign(concat, lambda feature, mask: feature + 1, feature_scale=2),
}
