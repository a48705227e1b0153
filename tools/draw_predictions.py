#!/usr/bin/env python
"""Draw ground truth beside the detections of an evaluation, both scores on each."""

import argparse
from pathlib import Path

from detectron2.data import MetadataCatalog

from msrcnn.engine import run_tool
from msrcnn.evaluation import load_ground_truth, load_predictions
from msrcnn.visualization import draw_prediction_grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="name of a registered dataset")
    parser.add_argument("--predictions", type=Path, required=True, help="predictions.npz")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    parser.add_argument("--num-images", type=int, default=8)
    args = parser.parse_args()
    draw_prediction_grid(
        load_ground_truth(args.dataset),
        Path(MetadataCatalog.get(args.dataset).image_root),
        load_predictions(args.predictions),
        args.output,
        num_images=args.num_images,
    )
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    run_tool(main)
