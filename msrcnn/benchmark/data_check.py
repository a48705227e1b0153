"""Time and memory of the check of a dataset before training, without and with caches."""

import argparse
import functools
import json
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from tabulate import tabulate

from ..data.annotation_file import checked_file, read_coco
from ..data.custom import parse_data_flag
from ..published.numbers import TRAIN_IMAGES
from .stand_in import repeat_dataset
from .timing import now

AN_HOUR = 3600  # caches do not trust files that were written just now


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="ANN.json:IMAGES",
        help="COCO annotations and images, which are repeated under new names",
    )
    parser.add_argument(
        "--images", type=int, default=TRAIN_IMAGES, help="size of the dataset (default: COCO's)"
    )


def measure(args: argparse.Namespace) -> dict:
    """Measures the check that training makes of a dataset, in a new process each time.

    Returns:
        ``images`` and ``annotations``, their numbers; ``first`` and ``again``, without and with the
        caches: ``annotation_seconds`` and ``image_seconds``, of one core, and ``peak_mib``, the
        peak memory of the process including imports.

    Raises:
        UserError: if the data do not exist, or have a problem.
    """
    annotations, images = parse_data_flag(args.data)
    checked = checked_file(annotations, images)
    checked.for_training()
    checked.with_images(images)
    content = repeat_dataset(read_coco(annotations), args.images)
    with tempfile.TemporaryDirectory() as folder:
        path = _write(content, images, Path(folder))
        result = {"images": len(content["images"]), "annotations": len(content["annotations"])}
        del content
        for run in ("first", "again"):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                result[run] = process.submit(_run, path, Path(folder)).result()
    return result


def table(result: dict) -> str:
    """Formats a result of :func:`measure` as a Markdown table."""
    rows = [
        (
            label,
            f"{result[run]['annotation_seconds']:.1f}",
            f"{result[run]['image_seconds']:.1f}",
            f"{result[run]['peak_mib']:,}",
        )
        for run, label in (("first", "first time"), ("again", "again, with the caches"))
    ]
    title = f"{result['images']:,} images, {result['annotations']:,} annotations"
    headers = (title, "annotations (s, one core)", "images (s, one core)", "peak MiB")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def _write(content: dict, images: Path, folder: Path) -> Path:
    """Writes the annotations, and links every image to a copy of the original."""
    originals = {image["file_name"] for image in content["images"]}
    for name in sorted(originals):
        (folder / "original" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(images / name, folder / "original" / name)
        os.utime(folder / "original" / name, (time.time() - AN_HOUR,) * 2)
    (folder / "images").mkdir()
    for number, image in enumerate(content["images"]):
        name = f"{number:08}{Path(image['file_name']).suffix}"
        os.link(folder / "original" / image["file_name"], folder / "images" / name)
        image["file_name"] = name
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    os.utime(path, (time.time() - AN_HOUR,) * 2)
    return path


def _run(path: Path, folder: Path) -> dict:
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    clock = functools.partial(now, torch.device("cpu"))
    start = clock()
    checked = checked_file(path, folder / "images")
    checked.for_training()
    middle = clock()
    checked.with_images(folder / "images")
    return {
        "annotation_seconds": middle - start,
        "image_seconds": clock() - middle,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
