"""Mask scoring for Detectron2's Python configs (``LazyConfig``), in one call."""

from detectron2.config import LazyCall
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, Res5ROIHeads
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from .modeling import MaskIoUHead, MaskScoringHead
from .modeling.mask_scoring import feature_shape, mask_shape


def add_mask_scoring(model: DictConfig, **maskiou_head) -> None:
    """Let a model's mask head also score its masks.

    Sizes and number of classes follow the model's own, those set after this call too. What the
    mask head itself takes, such as ``maskiou_loss_weight``, is set on ``model.roi_heads.mask_head``
    as ever.

    Args:
        model: config of a ``GeneralizedRCNN`` with Detectron2's mask head, on FPN, Cascade or
            C4; changed in place.
        **maskiou_head: arguments of :class:`MaskIoUHead` that are not to be the paper's.

    Raises:
        ValueError: if the model has no mask head, or one that is not Detectron2's.
    """
    mask_head = OmegaConf.select(model, "roi_heads.mask_head")
    if mask_head is None:
        raise ValueError("the model has no roi_heads.mask_head, whose masks could be scored")
    target = _target(mask_head)
    if target not in (MaskRCNNConvUpsampleHead, MaskScoringHead):
        raise ValueError(
            f"the mask head is {target.__name__}; only MaskRCNNConvUpsampleHead can be replaced"
        )
    mask_head._target_ = MaskScoringHead
    mask_head.maskiou_head = LazyCall(MaskIoUHead)(
        **{
            "input_shape": LazyCall(feature_shape)(
                declared="${...input_shape}",
                through_res5=issubclass(_target(model.roi_heads), Res5ROIHeads),
            ),
            "mask_shape": LazyCall(mask_shape)(
                feature="${..input_shape}", channels="${...num_classes}"
            ),
            "num_classes": "${...num_classes}",
            "conv_dims": [256] * 4,
            "fc_dims": [1024] * 2,
            **maskiou_head,
        }
    )


def _target(config: DictConfig):
    """What a config calls; one that was saved as YAML has its name alone."""
    target = config._target_
    return locate(target) if isinstance(target, str) else target
