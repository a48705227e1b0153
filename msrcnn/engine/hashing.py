"""Hashes of configs and data, which name what a result depends on."""

import hashlib
import json

from detectron2.config import CfgNode


def flatten(cfg: CfgNode, prefix: str = "") -> dict:
    """Returns the values of a config by complete key, such as ``SOLVER.MAX_ITER``."""
    flat = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def json_digest(content: object) -> str:
    """Returns the SHA-256 of JSON-serializable content; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
