#!/usr/bin/env python
"""Evaluate weights, or saved predictions, boxes and masks under every ranking."""

from msrcnn.engine import (
    argument_parser,
    config_beside,
    evaluate,
    evaluate_predictions,
    launch_tool,
    setup,
)


def parse_args():
    parser = argument_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", metavar="W", help="checkpoint to evaluate")
    source.add_argument(
        "--predictions",
        metavar="P",
        action="append",
        help="inference/predictions.npz of an earlier evaluation, or a COCO result file; "
        "given several times, all are compared in one table",
    )
    parser.add_argument("--output-dir", metavar="D", help="where results go (default: OUTPUT_DIR)")
    args = parser.parse_args()
    args.eval_only = True
    # What the config alone would train from is not needed here, and may not be there.
    args.opts += ["MODEL.WEIGHTS", args.weights or ""]
    if args.output_dir:
        args.opts += ["OUTPUT_DIR", args.output_dir]
    return args


def main(args):
    args.config_file = args.config_file or config_beside(args.weights or "")
    cfg = setup(args)
    if args.predictions:
        return evaluate_predictions(cfg, args.predictions)
    return evaluate(cfg, trust_weights=args.trust_weights)


if __name__ == "__main__":
    launch_tool(main, parse_args())
