"""The digest of a run: a hash of its config and data."""

import functools
import hashlib
from pathlib import Path

from detectron2.config import CfgNode

from ..config import flatten, get_msrcnn_cfg
from ..data.custom import is_custom_dataset
from ..data.images_digest import images_digest
from ..data.registered import annotation_file
from ..engine.hashing import json_digest

# Config keys that do not affect a result. The class names follow from the data.
IRRELEVANT = {
    *("OUTPUT_DIR", "WANDB", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS", "DATASETS.CLASS_NAMES"),
    "SOLVER.REFERENCE_BATCH",  # the schedule is already scaled
    *(f"SOLVER.CHECKPOINT_{key}" for key in ("PERIOD", "MINUTES", "KEEP")),
}


def digest(cfg: CfgNode, start: str | None) -> str:
    """Returns the digest of a run, ten characters.

    The images of custom data are part of it; a dataset with a name has those that belong to it. The
    content of the file in ``MODEL.WEIGHTS`` is not.

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
    return json_digest([changed, start])[:10]


def _data_digest(name: str) -> str:
    """Returns a hash of a dataset's files, or its name if there is no annotation file."""
    annotations = annotation_file(name)
    if annotations is None or not annotations.is_file():
        return name
    digest = _file_digest(annotations, annotations.stat().st_mtime_ns)
    # Only where a command line chooses the images: runs of earlier versions keep their digest.
    return json_digest([digest, images_digest(name)]) if is_custom_dataset(name) else digest


@functools.cache
def _file_digest(path: Path, modified: int) -> str:
    """Returns the hash of a file, computed again if it was modified."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
