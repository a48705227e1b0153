"""Mask scoring for Detectron2's Python configs (``LazyConfig``), in one call."""

from typing import Any

from detectron2.config import LazyCall
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, Res5ROIHeads
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from .modeling import MaskIoUHead, MaskScoringHead, MaskScoringRes5Head
from .modeling.maskiou_head import after_res5, mask_shape


def add_mask_scoring(model: DictConfig, **maskiou_head: Any) -> None:
    """Lets a model's mask head also score its masks.

    Sizes and the number of classes follow the model's own, also if they are set after this call.
    Arguments of the mask head, such as ``maskiou_loss_weight``, are set on
    ``model.roi_heads.mask_head``.

    Args:
        model: config of a ``GeneralizedRCNN`` with Detectron2's mask head, on FPN, Cascade or C4;
            modified in place.
        **maskiou_head: arguments of :class:`MaskIoUHead` that differ from the paper's.

    Raises:
        ValueError: if the model has no mask head, or one that is not Detectron2's.
    """
    mask_head = OmegaConf.select(model, "roi_heads.mask_head")
    if mask_head is None:
        raise ValueError("the model has no roi_heads.mask_head, whose masks could be scored")
    target = _target(mask_head)
    if target not in (MaskRCNNConvUpsampleHead, MaskScoringHead, MaskScoringRes5Head):
        raise ValueError(
            f"the mask head is {target.__name__}; only MaskRCNNConvUpsampleHead can be replaced"
        )
    res5 = issubclass(_target(model.roi_heads), Res5ROIHeads)
    mask_head._target_ = MaskScoringRes5Head if res5 else MaskScoringHead
    declared = "${...input_shape}" if res5 else "${..input_shape}"
    mask_head.maskiou_head = LazyCall(MaskIoUHead)(
        **{
            "input_shape": LazyCall(after_res5)(declared=declared) if res5 else declared,
            "mask_shape": LazyCall(mask_shape)(
                feature="${..input_shape}", channels="${...num_classes}"
            ),
            "num_classes": "${...num_classes}",
            "conv_dims": [256] * 4,
            "fc_dims": [1024] * 2,
            **maskiou_head,
        }
    )


def _target(config: DictConfig) -> type:
    """Returns what a config calls; a config that was saved as YAML has only its name."""
    target = config._target_
    return locate(target) if isinstance(target, str) else target
