"""Draw ground truth beside the detections of an evaluation, with both scores."""

import argparse
from pathlib import Path

from ..data.availability import check_datasets
from ..data.custom import registered_name
from ..data.registered import image_root
from ..errors import UserError
from ..evaluation import load_ground_truth, load_predictions
from ..visualization import prediction_grid
from ..visualization.images import write_image
from .arguments import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", required=True, metavar="NAME", help="a registered dataset, or ANN.json:IMAGES"
    )
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
    dataset = registered_name(args.dataset)
    check_datasets([dataset])
    images = image_root(dataset)
    if images is None:
        raise UserError(
            f"dataset '{args.dataset}': its image folder is not on a disk; copy it to one, and "
            "register that"
        )
    ground_truth = load_ground_truth(dataset)
    detections = load_predictions(args.predictions, ground_truth)
    picture = prediction_grid(ground_truth, images, detections, num_images=args.num_images)
    write_image(args.output, picture)
    print(f"Wrote {args.output}")
