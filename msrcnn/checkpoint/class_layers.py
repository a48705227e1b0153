"""The layers whose number of outputs depends on the number of classes."""

from typing import NamedTuple


class Outputs(NamedTuple):
    """How many outputs a layer has, that is, rows of its weight and bias."""

    each: int  # per class; for the RPN's layers, per anchor
    background: int = 0


MASKIOU_HEAD = "roi_heads.mask_head.maskiou_head"
CLASSIFIER = "roi_heads.box_predictor.cls_score"
# By the layer's name in a model with a single box head. A Cascade R-CNN has such layers in
# box_predictor.0, .1 and .2.
CLASS_LAYERS = {
    CLASSIFIER: Outputs(1, background=1),
    "roi_heads.box_predictor.bbox_pred": Outputs(4),
    "roi_heads.mask_head.predictor": Outputs(1),
    f"{MASKIOU_HEAD}.maskiou": Outputs(1),
}
