"""Check a COCO-format dataset: every problem that would stop training or evaluation."""

import argparse

from ..data.coco_format import check_coco, mask_format
from ..data.custom import parse_data_flag, read_coco
from ..errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", metavar="ANN.json", help="COCO-format annotation file")
    parser.add_argument("images", metavar="IMAGES", help="folder that file names are relative to")


def run(args: argparse.Namespace) -> None:
    annotations, images = parse_data_flag(f"{args.annotations}:{args.images}")
    content = read_coco(annotations)
    problems = check_coco(content, images)
    if problems:
        print("\n".join(problems))
        raise UserError(f"{annotations}: {len(problems)} problem{'s' if len(problems) > 1 else ''}")
    print(
        f"{annotations}: no problems; {len(content['images'])} images, "
        f"{len(content['annotations'])} annotations, {len(content['categories'])} categories, "
        f"masks as {mask_format(content)}"
    )
