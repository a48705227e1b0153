"""Published results on COCO, from ``numbers.yaml``."""

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = "COCO-InstanceSegmentation"
DATASET, IMAGES = "coco_2017_val", 5000
TRAIN_IMAGES = 118_287  # of COCO train2017


@dataclass(frozen=True)
class Published:
    """A published result on COCO 2017 val.

    Attributes:
        config: name of the config below ``configs/COCO-InstanceSegmentation``, without suffix.
        source: who published it.
        mask: mask AP, ranked by mask score for Mask Scoring R-CNN.
        box: box AP, or ``None``.
    """

    config: str
    source: str
    mask: float
    box: float | None = None

    @property
    def config_file(self) -> str:
        return f"{FOLDER}/{self.config}.yaml"

    def __str__(self) -> str:
        """Mask AP, box AP if it is known, and source."""
        box = "" if self.box is None else f" / {self.box}"
        return f"{self.mask}{box} ({self.source})"


@dataclass(frozen=True)
class Training:
    """What a Mask R-CNN costs to train, as published by Detectron2's model zoo.

    Attributes:
        seconds: time of an iteration of 16 images on 8 V100 GPUs.
        memory: memory of a GPU in GB.
    """

    seconds: float
    memory: float


@functools.cache
def _content() -> dict:
    return yaml.safe_load(Path(__file__).with_name("numbers.yaml").read_text())


def load_published() -> list[Published]:
    """Returns all published results."""
    content = _content()
    return [
        Published(**{**entry, "source": content["sources"][entry["source"]]})
        for entry in content["results"]
    ]


def published_by_config() -> dict[str, list[Published]]:
    """Returns the published results of each config."""
    by_config: dict[str, list[Published]] = {}
    for result in load_published():
        by_config.setdefault(result.config, []).append(result)
    return by_config


def published_training(config: str) -> Training | None:
    """Returns what the Mask R-CNN of a config costs to train; ``None`` if nobody published it."""
    model = config.split("_rcnn_")[1].rsplit("_", 1)[0]  # without the schedule
    entry = _content()["training"].get(model)
    return entry and Training(**entry)
