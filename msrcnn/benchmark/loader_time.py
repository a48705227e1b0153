"""Images per second that one core loads for training."""

import argparse
import statistics
from functools import partial

import torch
from detectron2.data import DatasetMapper
from tabulate import tabulate

from ..data.dataset_classes import training_images
from ..data.mapper import MaskScoringDatasetMapper
from ..engine import prepare_config
from .benchmark_config import add_config
from .timing import measure_in_turn, ratio, text

IMAGES = 8  # of each repeat
OURS, STOCK = "ours", "detectron2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)
    parser.add_argument("--repeats", type=int, default=10, help="times to load 8 images")


def measure(args: argparse.Namespace) -> dict:
    """Measures what a data worker does with images of ``DATASETS.TRAIN``: read, decode, resize,
    flip, and prepare the instances.

    Our mapper adds the area of each whole instance to what Detectron2's does.

    Returns:
        ``config``, ``overrides``, number of ``images`` of a repeat, ``seconds`` of each mapper and
        repeat, the ``ratio`` of ours to Detectron2's, and ``images_per_second`` of ours.
    """
    cfg = prepare_config(args.config_file, args.opts, splits=("TRAIN",))
    records = training_images(cfg)
    mappers = {OURS: MaskScoringDatasetMapper(cfg), STOCK: DatasetMapper(cfg)}
    ways = {name: partial(_load, mapper, records) for name, mapper in mappers.items()}
    seconds = measure_in_turn(ways, torch.device("cpu"), args.repeats)
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "images": IMAGES,
        "seconds": seconds,
        "ratio": ratio(seconds, OURS, STOCK),
        "images_per_second": IMAGES / statistics.median(seconds[OURS]),
    }


def _load(mapper: DatasetMapper, records: list[dict], repeat: int) -> None:
    for index in range(repeat * IMAGES, (repeat + 1) * IMAGES):
        mapper(records[index % len(records)])


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    headers = ("images per second and core", "time, ours / Detectron2's mapper (quartiles)")
    row = (f"{result['images_per_second']:.1f}", text(result["ratio"]))
    return tabulate([row], headers, tablefmt="pipe", disable_numparse=True)
