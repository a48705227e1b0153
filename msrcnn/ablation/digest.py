"""The digest of a run: a hash of everything that its result depends on."""

import functools
import hashlib
import json
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config import get_msrcnn_cfg
from ..data.custom import SEPARATOR, is_custom_dataset

# Config keys that do not affect a result.
IRRELEVANT = {
    *("OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS"),
    *(f"SOLVER.CHECKPOINT_{key}" for key in ("PERIOD", "MINUTES", "KEEP")),
}


def digest(cfg: CfgNode, start: str | None) -> str:
    """Returns the digest of a run, ten characters.

    Args:
        cfg: the complete config.
        start: digest of the run whose weights it starts from.
    """
    settings, defaults = flatten(cfg), flatten(get_msrcnn_cfg())
    # Only what differs from the defaults, so that keys added in later versions change nothing.
    changed = {
        key: value
        for key, value in settings.items()
        if key not in IRRELEVANT and (key not in defaults or value != defaults[key])
    }
    for split in ("DATASETS.TRAIN", "DATASETS.TEST"):
        changed[split] = [_data_digest(name) for name in settings[split]]
    return _sha256(json.dumps([changed, start], sort_keys=True).encode())[:10]


def flatten(cfg: CfgNode, prefix: str = "") -> dict:
    """Returns the values of a config by complete key, such as ``SOLVER.MAX_ITER``."""
    flat = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _data_digest(name: str) -> str:
    """Returns the hash of a dataset's annotation file, or the name if there is no such file."""
    if is_custom_dataset(name):
        annotations = Path(name.rpartition(SEPARATOR)[0])
    else:
        annotations = Path(MetadataCatalog.get(name).get("json_file") or "")
    if not annotations.is_file():
        return name
    return _file_digest(annotations, annotations.stat().st_mtime_ns)


@functools.cache
def _file_digest(path: Path, modified: int) -> str:
    """Returns the hash of a file, computed again if it was modified."""
    return _sha256(path.read_bytes())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
