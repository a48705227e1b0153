"""The digest of a run: a hash of its config and data."""

from detectron2.config import CfgNode

from ..config import get_msrcnn_cfg
from ..config_by_key import NO_EFFECT, flatten
from ..data.custom import is_custom_dataset
from ..data.images_digest import images_digest
from ..data.registered import annotation_file
from ..engine.hashing import json_digest
from ..provenance import file_record


def digest(cfg: CfgNode, start: str | None) -> str:
    """Returns the digest of a run, ten characters.

    It depends on the images of custom data, but not on those of registered datasets, which are
    assumed never to change, nor on the content of the file in ``MODEL.WEIGHTS``.

    Args:
        cfg: the complete config.
        start: digest of the run whose weights it starts from.
    """
    settings, defaults = flatten(cfg), flatten(get_msrcnn_cfg())
    # Only what differs from the defaults, so that keys added in later versions change nothing.
    changed = {
        key: value
        for key, value in settings.items()
        if not key.startswith(NO_EFFECT) and (key not in defaults or value != defaults[key])
    }
    for split in ("DATASETS.TRAIN", "DATASETS.TEST"):
        changed[split] = [_data_digest(name) for name in settings[split]]
    return json_digest([changed, start])[:10]


def _data_digest(name: str) -> str:
    """Returns a hash of a dataset's files, or its name if there is no annotation file."""
    record = file_record(annotation_file(name) or "")
    if record is None or record["sha256"] is None:
        return name
    digest = record["sha256"]
    # Only where a command line chooses the images: runs of earlier versions keep their digest.
    return json_digest([digest, images_digest(name)]) if is_custom_dataset(name) else digest
