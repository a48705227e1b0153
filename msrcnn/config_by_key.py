"""Reads, changes and compares configs by complete key, such as ``MODEL.DEVICE``."""

import json
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

# Beginnings of keys that do not affect a result.
NO_EFFECT = (
    *("OUTPUT_DIR", "WANDB", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "SOLVER.CHECKPOINT_"),
    "SOLVER.REFERENCE_BATCH",  # the schedule is already scaled
    "DATASETS.CLASS_NAMES",  # follow from the data
)
# Changes that turn a Mask Scoring R-CNN into the plain Mask R-CNN with the same detector.
WITHOUT_HEAD = {"MODEL.MASKIOU_ON": False, "MODEL.ROI_MASK_HEAD.RANK_BY": "box_score"}
EXACT_SCALING = 1e-9  # relative difference of a scaled learning rate by rounding


def value_of(cfg: CfgNode, key: str) -> Any:
    """Returns the value of a key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def changed(cfg: CfgNode, values: Mapping[str, object]) -> CfgNode:
    """Returns a copy of a config with other values by key, frozen if the config is."""
    frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        setattr(value_of(cfg, section) if section else cfg, name, value)
    if frozen:
        cfg.freeze()
    return cfg


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a config by key."""
    flat = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(ours: CfgNode, theirs: CfgNode, ignored: tuple[str, ...]) -> dict[str, list]:
    """Returns the keys in which two configs differ, with both values.

    Args:
        ours, theirs: two configs.
        ignored: beginnings of keys that may differ.
    """
    first, second = flatten(ours), flatten(theirs)
    return {
        key: [first.get(key), second.get(key)]
        for key in sorted({*first, *second})
        if not key.startswith(ignored) and not _equal(first.get(key), second.get(key))
    }


def _equal(ours: object, theirs: object) -> bool:
    if isinstance(ours, float) and isinstance(theirs, float):
        return abs(ours - theirs) <= EXACT_SCALING * max(abs(ours), abs(theirs))
    return json.dumps(ours) == json.dumps(theirs)  # a tuple in a file becomes a list
