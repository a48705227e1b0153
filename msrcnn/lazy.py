"""Mask scoring for Detectron2's Python configs (``LazyConfig``), in one call."""

from typing import Any

from detectron2.config import LazyCall
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, Res5ROIHeads
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from .modeling import (
    MaskIoUHead,
    MaskScoring,
    MaskScoringHead,
    MaskScoringRes5Head,
    with_mask_scoring,
)
from .modeling.mask_scoring_heads import why_not_scored
from .modeling.maskiou_head import after_res5, mask_shape


def add_mask_scoring(model: DictConfig, **maskiou_head: Any) -> None:
    """Adds mask scoring to a model's mask head.

    Sizes and the number of classes follow the model's own, also if they are set after this call.
    Arguments of the mask head, such as ``maskiou_loss_weight``, are set on
    ``model.roi_heads.mask_head``.

    Args:
        model: config of a ``GeneralizedRCNN`` on FPN, Cascade or C4, with Detectron2's mask head or
            another subclass of ``BaseMaskRCNNHead`` that has an ``input_shape``; modified in place.
        **maskiou_head: arguments of :class:`MaskIoUHead` that differ from the paper's, such as
            ``scalars=slice(0, 5)`` for ``INPUT_SCALARS``.

    Raises:
        ValueError: if the model has no mask head, or the masks of its head cannot be scored.
    """
    mask_head = OmegaConf.select(model, "roi_heads.mask_head")
    if mask_head is None:
        raise ValueError("the model has no roi_heads.mask_head, whose masks could be scored")
    res5 = issubclass(_target(model.roi_heads), Res5ROIHeads)
    _score_masks(mask_head, res5)
    declared = "${...input_shape}" if res5 else "${..input_shape}"
    mask_head.maskiou_head = LazyCall(MaskIoUHead)(
        **{
            "input_shape": LazyCall(after_res5)(declared=declared) if res5 else declared,
            "mask_shape": LazyCall(mask_shape)(
                feature="${..input_shape}",
                # Of the mask head, if it can be class-agnostic.
                channels="${...num_classes}"
                if "num_classes" in mask_head
                else "${....num_classes}",
            ),
            "num_classes": "${...num_classes}",
            "conv_dims": [256] * 4,
            "fc_dims": [1024] * 2,
            **maskiou_head,
        }
    )


def mask_scoring_head(head_class: str, features_from_res5: bool, **kwargs: Any) -> nn.Module:
    """Builds a mask head of another project so that it also scores its masks.

    Args:
        head_class: class of the mask head, as module and name, which saved configs need.
        features_from_res5: see :func:`with_mask_scoring`.
        **kwargs: arguments of the head and of :class:`MaskScoring`.
    """
    return with_mask_scoring(locate(head_class), features_from_res5=features_from_res5)(**kwargs)


def _score_masks(mask_head: DictConfig, res5: bool) -> None:
    """Replaces the class in a mask head's config by the version that scores masks."""
    head = _target(mask_head)
    if head is mask_scoring_head:  # by a call before this one
        return
    if head in (MaskRCNNConvUpsampleHead, MaskScoringHead, MaskScoringRes5Head):
        mask_head._target_ = MaskScoringRes5Head if res5 else MaskScoringHead
        return
    reason = why_not_scored(head)
    if not reason and "input_shape" not in mask_head:
        reason = "its config has no input_shape, the shape of the RoI features"
    if reason:
        raise ValueError(f"the mask head {head.__name__} cannot score its masks: {reason}")
    if not issubclass(head, MaskScoring):
        mask_head.head_class = f"{head.__module__}.{head.__qualname__}"
        mask_head.features_from_res5 = res5
        mask_head._target_ = mask_scoring_head


def _target(config: DictConfig) -> Any:
    """Returns what a config calls; a config that was saved as YAML has only its name."""
    target = config._target_
    return locate(target) if isinstance(target, str) else target
