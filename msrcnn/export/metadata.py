"""What a user of an exported model must know besides its inputs and outputs."""

from detectron2.config import CfgNode

from ..engine.model_classes import class_names
from ..version import __version__


def metadata(cfg: CfgNode) -> dict:
    """Returns JSON values by name.

    They are ``class_names`` by index, empty if they are unknown; ``input_format``, the order of the
    channels; ``value_range``, ``INPUT.VALUE_RANGE``, for images of more than 8 bits;
    ``calibration``, the slope and the offset of the probability that a mask is correct, see
    docs/predict.md; both are empty where the model has none; ``min_size_test`` and
    ``max_size_test``, for the resizing before the model, as Detectron2's ``ResizeShortestEdge``
    does it; and ``msrcnn_version``.
    """
    return {
        "class_names": class_names(cfg),
        "input_format": cfg.INPUT.FORMAT,
        "value_range": list(cfg.INPUT.VALUE_RANGE),
        "calibration": list(cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION) if cfg.MODEL.MASKIOU_ON else [],
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        "msrcnn_version": __version__,
    }
