"""Check a COCO-format dataset: every problem that would stop or spoil training or evaluation."""

import argparse

from tabulate import tabulate

from ..data.annotation_file import read_coco
from ..data.coco_rules import check_coco, mask_format
from ..data.custom import parse_data_flag
from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", metavar="ANN.json", help="COCO-format annotation file")
    parser.add_argument("images", metavar="IMAGES", help="folder that file names are relative to")
    parser.add_argument(
        "--examples",
        type=int,
        default=3,
        metavar="N",
        help="records to show of each kind of problem; -1 for all (default: 3)",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode every image wholly, to find those that are damaged in the middle",
    )


def run(args: argparse.Namespace) -> None:
    annotations, images = parse_data_flag(f"{args.annotations}:{args.images}")
    content = read_coco(annotations)
    training = not isinstance(content, dict) or "annotations" in content
    findings = check_coco(content, images, training=training, decode=args.decode)
    rows = [
        [
            "error" if finding.stops else "warning",
            len(finding.messages),
            "\n".join(finding.messages[: args.examples if args.examples >= 0 else None]),
        ]
        for finding in findings
    ]
    if rows:
        print(tabulate(rows, ["", "records", "examples"], tablefmt="simple", disable_numparse=True))
    errors = sum(len(finding.messages) for finding in findings if finding.stops)
    if errors:
        raise UserError(f"{annotations}: {errors} problem{'s' if errors > 1 else ''}")
    print(
        f"{annotations}: no {'errors' if findings else 'problems'}; "
        f"{len(content['images'])} images, {len(content.get('annotations', []))} annotations, "
        f"{len(content['categories'])} categories, masks as {mask_format(content)}"
    )
