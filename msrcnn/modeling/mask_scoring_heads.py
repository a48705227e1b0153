"""The mask heads that also score their masks: Detectron2's, and those of other projects."""

from detectron2.modeling.roi_heads import (
    ROI_MASK_HEAD_REGISTRY,
    BaseMaskRCNNHead,
    MaskRCNNConvUpsampleHead,
)
from torch import nn

from .mask_scoring import MaskScoring, SequentialMaskScoring


@ROI_MASK_HEAD_REGISTRY.register()
class MaskScoringHead(SequentialMaskScoring, MaskRCNNConvUpsampleHead):
    """Detectron2's mask head that also predicts the MaskIoU of its masks."""


@ROI_MASK_HEAD_REGISTRY.register()
class MaskScoringRes5Head(MaskScoringHead):
    """:class:`MaskScoringHead` for ``Res5ROIHeads`` (C4)."""

    features_from_res5 = True


def with_mask_scoring(
    head: type[BaseMaskRCNNHead], *, name: str = "", features_from_res5: bool = False
) -> type[BaseMaskRCNNHead]:
    """Returns a mask head class that also scores its masks; a decorator of your own mask head.

    The new class has the arguments of the old one, and those of
    :class:`~msrcnn.modeling.MaskScoring`. Its masks may be of any size that is a multiple of the
    RoI feature's.

    Example::

        @ROI_MASK_HEAD_REGISTRY.register()
        @with_mask_scoring
        class MyMaskHead(BaseMaskRCNNHead):
            ...

    Args:
        head: a subclass of Detectron2's ``BaseMaskRCNNHead`` that implements ``layers``, from RoI
            features of shape (N, channels, H, W) to mask logits of shape (N, classes, M, M).
        name: name of the new class; that of ``head`` by default.
        features_from_res5: whether the ROI heads are ``Res5ROIHeads`` (C4).

    Raises:
        TypeError: if the masks of ``head`` cannot be scored; the message says why.
    """
    if reason := why_not_scored(head):
        raise TypeError(f"the mask head {head.__name__} cannot score its masks: {reason}")
    name = name or head.__name__
    members = {
        "__doc__": head.__doc__,
        "__module__": head.__module__,
        "__qualname__": name,
        "features_from_res5": features_from_res5,
    }
    if issubclass(head, MaskScoring):
        return type(name, (head,), members)
    scoring = SequentialMaskScoring if issubclass(head, nn.Sequential) else MaskScoring
    return type(name, (scoring, head), members)


def why_not_scored(head: type, *, by_config: bool = False) -> str:
    """Returns why :func:`with_mask_scoring` does not apply to a mask head, or "" if it does.

    Args:
        head: any class.
        by_config: whether the head will be built from a ``CfgNode``.
    """
    if issubclass(head, MaskScoring):
        return ""
    if not issubclass(head, BaseMaskRCNNHead):
        return (
            "it is not a subclass of Detectron2's BaseMaskRCNNHead, whose layers() predicts all "
            "masks from RoI features, in training as at test time"
        )
    if head.layers is BaseMaskRCNNHead.layers:
        return "it does not implement layers(), from RoI features to mask logits"
    if head.forward is not BaseMaskRCNNHead.forward:
        return (
            "it has its own forward(), which mask scoring would replace; only layers() may differ "
            "from BaseMaskRCNNHead"
        )
    if by_config and not hasattr(head.__init__, "__wrapped__"):
        return "its __init__ is not @configurable, so arguments of mask scoring cannot be added"
    return ""
