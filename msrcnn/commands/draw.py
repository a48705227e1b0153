"""Draw ground truth beside the detections of an evaluation, with both scores."""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog

from ..data.availability import check_datasets
from ..evaluation import load_ground_truth, load_predictions
from ..visualization import draw_prediction_grid
from .arguments import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a registered dataset")
    parser.add_argument(
        "--predictions",
        type=Path,
        required=True,
        metavar="P",
        help="inference/predictions.npz of an evaluation",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="OUT", help="image to write")
    parser.add_argument(
        "--num-images", type=at_least(1), default=8, metavar="N", help="(default: 8)"
    )


def run(args: argparse.Namespace) -> None:
    check_datasets([args.dataset])
    ground_truth = load_ground_truth(args.dataset)
    draw_prediction_grid(
        ground_truth,
        Path(MetadataCatalog.get(args.dataset).image_root),
        load_predictions(args.predictions, ground_truth),
        args.output,
        num_images=args.num_images,
    )
    print(f"Wrote {args.output}")
