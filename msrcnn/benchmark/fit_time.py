"""Time of fitting mask scores: the pass over the training images, and the fit."""

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from detectron2.data import get_detection_dataset_dicts
from detectron2.modeling import build_model
from tabulate import tabulate
from tqdm import trange

from ..engine import prepare_config
from ..engine.device import on_available_device
from ..evaluation import load_ground_truth
from ..modeling.fast_inference import fast_inference
from ..published.numbers import TRAIN_IMAGES
from ..scores import FIT_DEFAULTS
from ..scores.fit import build_optimizer, fit_seed, fit_step, fitting
from ..scores.sample_cache import SampleCache
from ..scores.sample_pass import collect_samples
from .benchmark_config import add_config
from .timing import WARM_UP, now
from .untrained_rpn import keep_anchors

# An image has as many detections as there can be.
SETTINGS = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.WEIGHTS", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)
    parser.add_argument(
        "--images",
        type=int,
        default=TRAIN_IMAGES,
        help="training images to compute the total time for (default: those of COCO)",
    )
    parser.add_argument("--repeats", type=int, default=10, help="images and iterations to measure")


def measure(args: argparse.Namespace) -> dict:
    """Measures with an untrained model on images of ``DATASETS.TRAIN``.

    An image of the pass (inference, encoding, matching, writing) and an iteration of the fit
    alternate. On the CPU, the time is that of the process alone.

    Returns:
        ``config``, ``overrides``, ``images``; ``iterations`` of a fit and its ``batch``;
        ``detections``, the mean number per image; ``image_seconds`` and ``iteration_seconds`` of
        each repeat; ``pass_hours`` and ``fit_minutes``, computed from their medians.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    opts = [*FIT_DEFAULTS, *args.opts, *SETTINGS, "DATALOADER.NUM_WORKERS", 0]
    cfg = on_available_device(prepare_config(args.config_file, opts, splits=("TRAIN",)))
    torch.manual_seed(fit_seed(cfg))
    model = build_model(cfg).eval()
    keep_anchors(model)
    head = model.roi_heads.mask_head.maskiou_head
    optimizer = build_optimizer(head, cfg)
    ground_truth = load_ground_truth(cfg.DATASETS.TRAIN[0])
    images = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    rng = np.random.default_rng(0)
    image_seconds, iteration_seconds, detections = [], [], []
    for repeat in trange(WARM_UP + args.repeats, unit="repeat", leave=False):
        with tempfile.TemporaryDirectory() as folder:
            cache = SampleCache(Path(folder), {})
            image = images[repeat % len(images)]
            with fast_inference(model):
                start = now(model.device)
                collect_samples(cfg, model, ground_truth, [image], cache, max_bytes=2**40)
                of_image = now(model.device) - start
            rows = rng.choice(len(cache), cfg.SOLVER.FIT_BATCH)
            with fitting(head):
                start = now(model.device)
                fit_step(head, optimizer, cache.batch(rows, model.device), cfg)
                of_iteration = now(model.device) - start
            if repeat >= WARM_UP:
                image_seconds.append(of_image)
                iteration_seconds.append(of_iteration)
                detections.append(len(cache))
    iterations = cfg.SOLVER.FIT_MAX_ITER
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "images": args.images,
        "iterations": iterations,
        "batch": cfg.SOLVER.FIT_BATCH,
        "detections": statistics.mean(detections),
        "image_seconds": image_seconds,
        "iteration_seconds": iteration_seconds,
        "pass_hours": args.images * statistics.median(image_seconds) / 3600,
        "fit_minutes": iterations * statistics.median(iteration_seconds) / 60,
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    image, iteration = (
        statistics.median(result[key]) for key in ("image_seconds", "iteration_seconds")
    )
    rows = [
        (
            "pass",
            f"{image:.3f} s per image with {result['detections']:.0f} detections",
            f"{result['images']:,} images",
            f"{result['pass_hours']:.1f} h",
        ),
        (
            "fit",
            f"{iteration:.3f} s per iteration of {result['batch']} detections",
            f"{result['iterations']:,} iterations",
            f"{result['fit_minutes']:.1f} min",
        ),
    ]
    return tabulate(rows, ("", "measured", "number", "in all"), tablefmt="pipe")
