"""Compares time and memory of our evaluation with Detectron2's, without model inference."""

import argparse
import contextlib
import io
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling.postprocessing import detector_postprocess
from tabulate import tabulate

from ..data.registered import checked_dataset
from ..errors import UserError
from ..evaluation import MaskScoringEvaluator, load_ground_truth, postprocess_to_rle
from ..evaluation.result_files import EVALUATION
from .stand_in import REPEAT_ID, StandIn, repeat_dataset

WARM_UP_IMAGES = 5
LARGE_IMAGE = {"height": 4000, "width": 6000, "detections": 300}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    parser.add_argument(
        "--annotations",
        type=Path,
        required=True,
        metavar="ANN.json",
        help="COCO annotations, which are repeated with new ids for the number of images",
    )
    parser.add_argument(
        "--images", type=int, nargs="+", default=[100, 1000, 5000], help="dataset sizes to measure"
    )
    parser.add_argument("--detections", type=int, default=100, help="detections per image")
    parser.add_argument(
        "--repeats",
        type=int,
        nargs="+",
        default=[3],
        help="number of runs, for all dataset sizes or one for each",
    )


def measure(args: argparse.Namespace) -> dict:
    """Measures time and peak memory of both evaluations, alternating, each run in a new process.

    ``stock`` is Detectron2's ``COCOEvaluator`` with pycocotools (its C++ extension is not on PyPI)
    and one ranking of masks. ``ours`` computes all rankings, the true MaskIoU and the bootstrap,
    and writes the result files, but not the HTML report.

    Returns:
        ``sizes``, a list with one entry per dataset size, and ``large_image``, for one image of
        6000 x 4000 pixels. Each contains, for ``stock`` and ``ours``, the median ``seconds`` per
        stage and ``peak_mib``, the peak memory of the process including imports; and ``speedup``,
        the ratio of the times for encoding masks as RLE (``encoding``) and in total (``total``).

    Raises:
        UserError: if the annotation file does not exist, has a problem or is not supported, or
            ``--repeats`` does not match ``--images``.
    """
    if not args.annotations.is_file():
        raise UserError(f"--annotations '{args.annotations}': no such file")
    content = _content(args.annotations.absolute())
    repeats = args.repeats * len(args.images) if len(args.repeats) == 1 else args.repeats
    if len(repeats) != len(args.images):
        raise UserError(f"--repeats: give one number, or {len(args.images)}, one for each --images")
    if not all(a["iscrowd"] or isinstance(a["segmentation"], list) for a in content["annotations"]):
        raise UserError(f"--annotations '{args.annotations}': instances must be polygons")
    if max(image["id"] for image in content["images"]) >= REPEAT_ID:
        raise UserError(f"--annotations '{args.annotations}': image ids must be below {REPEAT_ID}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.json"
        source.write_text(json.dumps(content))
        sizes = [
            {
                "images": size,
                "repeats": repeats_of_size,
                **_compare(
                    Path(folder),
                    source,
                    repeat_dataset(content, size),
                    args.detections,
                    repeats_of_size,
                ),
            }
            for size, repeats_of_size in zip(args.images, repeats)
        ]
        large = _large_image(content)
        path = Path(folder) / "large.json"
        path.write_text(json.dumps(large))
        large_image = _compare(Path(folder), path, large, LARGE_IMAGE["detections"], 1)
    return {
        "detections_of_an_image": args.detections,
        "sizes": sizes,
        "large_image": {**LARGE_IMAGE, **large_image},
    }


def _content(annotations: Path) -> dict:
    """Returns a checked annotation file, with the keys that it may leave out."""
    name = f"{annotations} without images"
    if name not in DatasetCatalog.list():
        register_coco_instances(name, {}, str(annotations), str(annotations.parent))
    checked_dataset(name).for_evaluation(masks=True)
    return load_ground_truth(name).dataset


def table(result: dict) -> str:
    """Formats a result of :func:`measure` as a text table."""
    rows = []
    measured = [(f"{s['images']} images", s) for s in result["sizes"]]
    measured.append(("one of 6000 x 4000", result["large_image"]))
    for name, each in measured:
        for variant in ("stock", "ours"):
            stages = ", ".join(f"{k} {v:.2f}" for k, v in each[variant]["seconds"].items())
            total = sum(each[variant]["seconds"].values())
            rows.append([name, variant, f"{total:.1f}", each[variant]["peak_mib"], stages])
            name = ""
        speedup = each["speedup"]
        totals = {name: sum(each[name]["seconds"].values()) for name in ("stock", "ours")}
        to_table = totals["stock"] / (totals["ours"] - each["ours"]["seconds"]["bootstrap"])
        others = f"encoding {speedup['encoding']:.1f}, to the printed table {to_table:.1f}"
        rows.append(["", "times faster", f"{speedup['total']:.1f}", "", others])
    return tabulate(
        rows,
        headers=["", "", "seconds", "peak MiB", "seconds by stage"],
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "left"),
    )


def _large_image(content: dict) -> dict:
    """Builds a dataset with one large image that contains the scaled instances of all images."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    large = {**content, "images": [{"id": 1, "file_name": "large.jpg"}], "annotations": []}
    large["images"][0].update(height=LARGE_IMAGE["height"], width=LARGE_IMAGE["width"])
    for annotation in content["annotations"]:
        if annotation["iscrowd"]:
            continue
        width, height = sizes[annotation["image_id"]]
        scale = min(LARGE_IMAGE["width"] / width, LARGE_IMAGE["height"] / height)
        large["annotations"].append(
            {
                **annotation,
                "image_id": 1,
                "bbox": [value * scale for value in annotation["bbox"]],
                "area": annotation["area"] * scale**2,
                "segmentation": [
                    [value * scale for value in polygon] for polygon in annotation["segmentation"]
                ],
            }
        )
    return large


def _compare(folder: Path, source: Path, content: dict, detections: int, repeats: int) -> dict:
    """Measures both variants on one dataset."""
    path = folder / "dataset.json"
    path.write_text(json.dumps(content))
    runs: dict[str, list] = {name: [] for name in VARIANTS}
    for _ in range(repeats):
        for name in VARIANTS:
            # A new process for each run, because peak memory is measured per process.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                run = process.submit(_run, name, source, path, detections, folder / name)
                runs[name].append(run.result())
    result = {
        name: {
            "seconds": {
                stage: statistics.median(run["seconds"][stage] for run in variant_runs)
                for stage in variant_runs[0]["seconds"]
            },
            "peak_mib": statistics.median(run["peak_mib"] for run in variant_runs),
        }
        for name, variant_runs in runs.items()
    }
    stock, ours = (result[name]["seconds"] for name in ("stock", "ours"))
    result["speedup"] = {
        "encoding": (stock["paste"] + stock["encode"]) / ours["encode"],
        "total": sum(stock.values()) / sum(ours.values()),
    }
    return result


def _run(variant: str, source: Path, path: Path, detections: int, output: Path) -> dict:
    """Runs one variant in this process and measures it."""
    torch.manual_seed(0)
    name = "benchmark"
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        register_coco_instances(name, {}, str(path), "")
        stand_in = StandIn(source, detections)
        images = json.loads(path.read_text())["images"]
        for image in images:
            stand_in(image["id"])  # generate and cache the detections before timing
        for image in images[:WARM_UP_IMAGES] if len(images) > 1 else []:
            instances = stand_in(image["id"])
            VARIANTS[variant].postprocess(instances, image["height"], image["width"])
        seconds = VARIANTS[variant](name, output, stand_in, images)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"seconds": seconds, "peak_mib": peak}


class _Stages:
    """Accumulates the time of each stage, in seconds."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start


def _stock(name: str, output: Path, stand_in: StandIn, images: list[dict]) -> dict[str, float]:
    evaluator = COCOEvaluator(
        name, ("bbox", "segm"), False, str(output), max_dets_per_image=100, use_fast_impl=False
    )
    stage = _Stages()
    evaluator.reset()
    for image in images:
        raw = stand_in(image["id"])
        with stage("paste"):
            instances = detector_postprocess(raw, image["height"], image["width"])
        with stage("encode"):
            evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    with stage("metrics"):
        evaluator.evaluate()
    return stage.seconds


def _ours(name: str, output: Path, stand_in: StandIn, images: list[dict]) -> dict[str, float]:
    evaluator = MaskScoringEvaluator(name, str(output))
    stage = _Stages()
    evaluator.reset()
    for image in images:
        raw = stand_in(image["id"])
        with stage("encode"):
            instances = postprocess_to_rle(raw, image["height"], image["width"])
            evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    with stage("gather"):
        evaluator.evaluate()
    stages = json.loads((output / EVALUATION).read_text())["seconds"]
    del stages["inference"]  # already measured above
    stage.seconds["gather"] -= sum(stages.values())
    return {**stage.seconds, **stages}


_stock.postprocess, _ours.postprocess = detector_postprocess, postprocess_to_rle
VARIANTS: dict[str, Callable] = {"stock": _stock, "ours": _ours}
