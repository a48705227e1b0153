"""Check a COCO-format dataset: every problem that would stop or spoil training or evaluation."""

import argparse
import json
import os
from pathlib import Path
from textwrap import fill

from detectron2.config import get_cfg
from tabulate import tabulate

from ..atomic_file import write_file
from ..data.annotation_file import read_coco
from ..data.class_counts import class_counts
from ..data.coco_rules import check_coco, mask_format
from ..data.custom import missing_folder, missing_path
from ..data.finding import Finding
from ..data.health import health_findings
from ..data.image_paths import named_folder
from ..data.object_sizes import size_advice
from ..data.other_formats import READERS, read_other
from ..data.repair import repaired
from ..errors import UserError
from ..escaping import one_line
from ..visualization.check_report import check_report

LISTED = 30  # classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "annotations",
        metavar="ANN.json",
        help="COCO-format annotation file; with --convert, the file or folder",
    )
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
        help="decode every image completely, to find those that are damaged in the middle; with "
        "--value-range, compare the values of every image with it",
    )
    parser.add_argument(
        "--value-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        default=(),
        help="INPUT.VALUE_RANGE of the training, for images of more than 8 bits: the values that "
        "become black and white, such as 0 4095 for a camera of 12 bits",
    )
    parser.add_argument(
        "--fix",
        type=Path,
        metavar="OUT.json",
        help="write a copy with every fix that needs no guessing, list the changes, and check the "
        "copy",
    )
    parser.add_argument(
        "--convert",
        choices=READERS,
        help="read labelme (the folder of its JSON files), CVAT for images 1.1 (its XML file) or "
        "YOLO's polygons (the folder of its label files), and write them as COCO to --fix",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="OUT.html",
        help="write a page with the problems and the classes, and examples of them drawn",
    )


def run(args: argparse.Namespace) -> None:
    if args.value_range and not args.value_range[0] < args.value_range[1]:
        raise UserError("--value-range LOW HIGH: LOW must be below HIGH")
    for other in (Path(args.annotations), args.fix):
        if args.report and other and args.report.resolve() == other.resolve():
            raise UserError(
                f"--report '{args.report}' would overwrite '{other}': give another file"
            )
    annotations, images = Path(args.annotations), named_folder(args.images)
    if args.convert:
        if not args.fix:
            raise UserError("--convert needs --fix OUT.json, the file to write")
        content = _converted(args.convert, annotations, images)
    else:
        if problem := missing_path(annotations, images):
            raise UserError(problem)
        content = read_coco(annotations)
    if args.fix:
        annotations, content = args.fix, _fix(annotations, content, images, args.fix)
    training = not isinstance(content, dict) or "annotations" in content
    findings = check_coco(
        content,
        images,
        training=training,
        decode=args.decode,
        value_range=tuple(args.value_range),
    )
    if not any(finding.stops for finding in findings):
        findings += health_findings(content)
    if args.report:
        write_file(args.report, check_report(str(annotations), content, images, findings))
        print(f"Wrote {args.report}")
    if findings:
        print(_table(findings, args.examples))
    errors = sum(len(finding.messages) for finding in findings if finding.stops)
    if errors:
        raise UserError(f"{annotations}: {errors} problem{'s' if errors > 1 else ''}")
    print(
        f"{annotations}: no {'errors' if findings else 'problems'}; "
        f"{len(content['images'])} images, {len(content.get('annotations', []))} annotations, "
        f"{len(content['categories'])} categories, masks as {mask_format(content)}"
    )
    print(_classes(content))
    for line in size_advice(content, get_cfg().TEST.DETECTIONS_PER_IMAGE):
        print(line)


def _converted(kind: str, annotations: Path, images: Path) -> dict:
    if problem := missing_folder(images):
        raise UserError(problem)
    content, left_out = read_other(kind, annotations, images)
    for each in left_out:
        print(one_line(f"warning: {each}"))
    return content


def _fix(annotations: Path, content: object, images: Path, target: Path) -> dict:
    if target.resolve() == annotations.resolve() or (
        target.exists() and os.path.samefile(target, annotations)  # by a hard link
    ):
        raise UserError(f"--fix '{target}' is the input itself: give another file")
    try:
        content, changes = repaired(content, images)
    except UserError as error:
        raise UserError(f"{annotations} {error}") from error
    for change in changes:
        print(one_line(change))
    write_file(target, json.dumps(content))
    print(f"Wrote {target}: {len(changes)} change{'' if len(changes) == 1 else 's'}")
    return content


def _classes(content: dict) -> str:
    """Lists the rarest classes: a misspelled one stands at the beginning."""
    counts = class_counts(content)
    names = [f"{one_line(each['name'])} {number:,}" for each, number in counts[:LISTED]]
    more = [f"and {len(counts) - LISTED:,} more"] if len(counts) > LISTED else []
    listed = ", ".join(names + more)
    return fill(f"annotations of each class: {listed}", 100, subsequent_indent="  ")


def _table(findings: list[Finding], examples: int) -> str:
    rows = [
        [
            "error" if finding.stops else "warning",
            len(finding.messages),
            "\n".join(map(one_line, finding.messages[: examples if examples >= 0 else None])),
        ]
        for finding in findings
    ]
    return tabulate(rows, ["", "records", "examples"], tablefmt="simple", disable_numparse=True)
