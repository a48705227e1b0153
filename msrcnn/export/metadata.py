"""What a user of an exported model must know besides its inputs and outputs."""

from detectron2.config import CfgNode

from ..engine.model_classes import class_names
from ..version import __version__


def metadata(cfg: CfgNode) -> dict:
    """Returns JSON values by name.

    They are ``class_names`` by index, empty if they are unknown; ``input_format``, the order of the
    channels; ``min_size_test`` and ``max_size_test``, for the resizing before the model, as
    Detectron2's ``ResizeShortestEdge`` does it; and ``msrcnn_version``.
    """
    return {
        "class_names": class_names(cfg),
        "input_format": cfg.INPUT.FORMAT,
        "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
        "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        "msrcnn_version": __version__,
    }
