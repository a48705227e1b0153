"""Convert another library's checkpoint, and write the config to use it with."""

import argparse
from pathlib import Path

from ..checkpoint.convert import SOURCES, convert_checkpoint
from .arguments import add_trust, not_negative


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", choices=SOURCES, required=True)
    parser.add_argument("input", type=Path, metavar="IN", help="the library's checkpoint")
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="OUT.pth or OUT.safetensors; writes OUT.yaml too"
    )
    parser.add_argument(
        "--style",
        choices=("caffe", "pytorch"),
        help="whether a block's stride is in its first 1x1 convolution (caffe) or in the 3x3 one "
        "(pytorch), and the matching image normalization (default: that of the library's "
        "published models)",
    )
    parser.add_argument(
        "--bn-eps",
        type=not_negative,
        metavar="E",
        help="epsilon of the backbone's batch normalization (default: that of the library's "
        "published models)",
    )
    parser.add_argument(
        "--all-classes",
        action="store_true",
        help="with torchvision, a file with 91 outputs has 90 classes of your own, and not COCO's",
    )
    add_trust(parser)


def run(args: argparse.Namespace) -> None:
    converted = convert_checkpoint(
        args.input,
        args.output,
        args.source,
        style=args.style,
        bn_eps=args.bn_eps,
        all_classes=args.all_classes,
        trusted=args.trust_weights,
    )
    print(converted.description)
    print(f"Wrote {args.output} and {args.output.with_suffix('.yaml')}")
