"""The config that benchmarks measure with."""

import argparse

DEFAULT_CONFIG = "COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config-file``, and ``KEY VALUE ...``, which must come last."""
    parser.add_argument(
        "--config-file", default=DEFAULT_CONFIG, metavar="F", help="(default: %(default)s)"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="override config keys")
