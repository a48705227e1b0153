"""Print what a bug report needs: versions, devices, datasets, and whether a small model runs."""

import argparse
import os

from detectron2.utils.collect_env import collect_env_info
from tabulate import tabulate

from ..engine.run_log import silence_known_warnings
from ..engine.self_check import devices, try_device
from ..errors import UserError
from ..provenance import software


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(args: argparse.Namespace) -> None:
    silence_known_warnings()
    print(collect_env_info())
    tried = {device: try_device(device) for device in devices()}
    rows = [
        *((name, "-" if value is None else value) for name, value in software().items()),
        ("DETECTRON2_DATASETS", os.getenv("DETECTRON2_DATASETS", "not set: ./datasets")),
        *((f"training step and inference on {device}", text) for device, text in tried.items()),
    ]
    print(tabulate(rows, tablefmt="plain"))
    failed = [device for device, text in tried.items() if text != "works"]
    if failed:
        raise UserError(f"mask scoring does not run on {', '.join(failed)}: see above")
