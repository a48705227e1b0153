#!/usr/bin/env python
"""Convert another library's checkpoint; the config to use it with is written beside."""

import argparse
from pathlib import Path

from msrcnn.checkpoint.convert import SOURCES, convert_checkpoint
from msrcnn.engine import run_tool
from msrcnn.engine.defaults import TRUST_HELP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", choices=SOURCES, required=True)
    parser.add_argument("input", type=Path, metavar="IN", help="the library's file")
    parser.add_argument("output", type=Path, metavar="OUT", help="OUT.pth, and OUT.yaml beside it")
    parser.add_argument(
        "--style",
        choices=("caffe", "pytorch"),
        help="where a block's stride is, in the first 1x1 convolution or the 3x3 one, and with it "
        "the images' normalisation (default: as in the library's published models)",
    )
    parser.add_argument(
        "--bn-eps",
        type=float,
        metavar="E",
        help="what the backbone's batch normalisation adds to the variance (default: as in the "
        "library's published models)",
    )
    parser.add_argument("--trust-weights", action="store_true", help=TRUST_HELP)
    args = parser.parse_args()
    converted = convert_checkpoint(
        args.input,
        args.output,
        args.source,
        style=args.style,
        bn_eps=args.bn_eps,
        trusted=args.trust_weights,
    )
    print(converted.description)
    print(f"Wrote {args.output} and {args.output.with_suffix('.yaml')}")


if __name__ == "__main__":
    run_tool(main)
