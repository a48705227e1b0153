"""What cached samples depend on: the detector's weights, its config and the data."""

from detectron2.config import CfgNode
from pycocotools.coco import COCO
from torch import nn

from ..checkpoint.class_layers import MASKIOU_HEAD
from ..config_by_key import flatten
from ..data.images_digest import images_digest
from ..engine.hashing import json_digest, weights_digest
from ..modeling import ROI_MASKIOU_HEAD_REGISTRY
from .fit import fit_seed
from .sample_cache import SMALL

# What samples hold, which may change between versions of msrcnn. At first, areas were in pixels of
# the image instead of the network input, and keys did not include the images.
COLUMNS = [*SMALL, "areas of the input", "images"]


def cache_key(cfg: CfgNode, model: nn.Module, ground_truth: COCO) -> dict[str, str]:
    """Returns hashes of everything that samples depend on.

    Args:
        cfg: config of the model.
        model: the detector; its MaskIoU head does not count.
        ground_truth: annotations of the images.
    """
    weights = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(MASKIOU_HEAD)
    }
    return {
        "columns": json_digest(COLUMNS),
        "weights": weights_digest(weights),
        "config": json_digest(_settings(cfg)),
        "data": json_digest(ground_truth.dataset),
        "images": json_digest([images_digest(name) for name in cfg.DATASETS.TRAIN]),
    }


def cache_name(cfg: CfgNode) -> str:
    """Returns a folder name for the samples of a detector and its training data.

    Fits that can use the same samples have the same name. Another version of msrcnn has another
    name if its samples hold something else.
    """
    return f"{_seen(cfg)}-{json_digest([COLUMNS, _settings(cfg)])[:10]}"


def _settings(cfg: CfgNode) -> list:
    """Returns the part of a config that samples depend on."""
    relevant = {
        key: value
        for key, value in flatten(cfg).items()
        if key.startswith(("MODEL.", "INPUT."))
        and not key.startswith("MODEL.ROI_MASKIOU_HEAD.")
        and key not in ("MODEL.WEIGHTS", "MODEL.DEVICE")
    }
    drawn = [cfg.SOLVER.FIT_IMAGES, fit_seed(cfg)] if cfg.SOLVER.FIT_IMAGES > 0 else None
    return [relevant, cfg.TEST.DETECTIONS_PER_IMAGE, cfg.SOLVER.FIT_VIEWS, _seen(cfg), drawn]


def _seen(cfg: CfgNode) -> str:
    """Returns a name for the feature and the masks that the head takes of a detection."""
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    if ROI_MASKIOU_HEAD_REGISTRY.get(head.NAME).uses_mask_features:
        return f"{head.INPUT}-mask_feature"
    return "concat" if head.INPUT == "multiply" else head.INPUT  # both take the same
