#!/usr/bin/env python
"""Train and evaluate every variant of a sweep, and print its table."""

import argparse
from pathlib import Path

from msrcnn.ablation.command import ablate
from msrcnn.engine import run_tool


def at_least(low: int):
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {low}")
        return int(text)

    return number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", required=True, metavar="F", help="configs/ablations/NAME.yaml")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="D")
    parser.add_argument("--quick", action="store_true", help="minutes on small hardware")
    parser.add_argument("--protocol", metavar="P", help="of the sweep file's quick ones, by name")
    parser.add_argument(
        "--head-only", action="store_true", help="train the MaskIoU heads alone, on one Mask R-CNN"
    )
    parser.add_argument("--runs-dir", type=Path, metavar="R", help="share runs (default: D/runs)")
    data = "COCO-format annotation file and image folder, joined by a colon"
    parser.add_argument("--train-data", metavar="ANN.json:IMAGES", help=f"train on this {data}")
    parser.add_argument("--val-data", metavar="ANN.json:IMAGES", help=f"evaluate on this {data}")
    parser.add_argument("--launcher", choices=["local", "slurm"], default="local")
    parser.add_argument(
        "--gpus", type=at_least(0), metavar="N", help="of a run (default: 1, if there)"
    )
    parser.add_argument("--slots", type=at_least(1), metavar="N", help="local: runs at once")
    parser.add_argument("--partition", metavar="P", help="Slurm's")
    parser.add_argument(
        "--time",
        type=at_least(1),
        metavar="MINUTES",
        help="Slurm: of a job, which goes on in another (default: a day)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run and its cost")
    parser.add_argument("--report-only", action="store_true", help="rebuild table and plots")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... for every run")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse_args()
    run_tool(lambda: ablate(args))
