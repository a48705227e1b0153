"""Adds mask scores to a trained detector: one pass over its training images, then a fit."""

import hashlib
import json
import logging
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from detectron2.data import get_detection_dataset_dicts
from detectron2.modeling import build_model
from detectron2.utils import comm
from pycocotools.coco import COCO
from torch import nn

from ..atomic_file import write_file
from ..checkpoint import MaskScoringCheckpointer
from ..config import load_config
from ..engine import Trainer
from ..engine.predictor import load_model
from ..errors import UserError
from ..evaluation import load_ground_truth
from .exponents import Exponents, choose_exponents, choose_free_exponent
from .fit import FitResult, fit_head, predict_all
from .sample_cache import SampleCache
from .sample_pass import collect_samples

logger = logging.getLogger(__name__)

WEIGHTS = "model_fitted"  # .pth, and .yaml beside it
HEAD = "roi_heads.mask_head.maskiou_head."
# Config keys that the fit uses unless others are given; the paper's training has other ones.
FIT_DEFAULTS = (
    *("MODEL.MASKIOU_ON", True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections"),
    *("MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES", "zero"),
    *("MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS", True),
)


def fit_scores(
    cfg, *, cache_gb: float = 8.0, keep_cache: bool = False, trust_weights: bool = False
) -> OrderedDict:
    """Fits a fresh MaskIoU head to the detections of a trained detector, and evaluates it.

    The detector's weights do not change. Writes ``model_fitted.pth`` with its config beside it, and
    ``fit.json``, to ``OUTPUT_DIR``.

    Args:
        cfg: a config from :func:`msrcnn.engine.start_run` with the detector in ``MODEL.WEIGHTS``.
        cache_gb: bounds the size of the cache on disk.
        keep_cache: keep the cache, so that another fit starts at once.
        trust_weights: see :func:`msrcnn.engine.predictor.load_model`.

    Returns:
        The metrics of the evaluation; empty if ``DATASETS.TEST`` is.

    Raises:
        UserError: if the weights do not fit, or the cache was made from something else, or no
            detection matches an instance.
    """
    if len(cfg.DATASETS.TRAIN) != 1:
        raise UserError(
            f"scores are fitted to one dataset; DATASETS.TRAIN names {len(cfg.DATASETS.TRAIN)}"
        )
    output_dir = Path(cfg.OUTPUT_DIR)
    model = build_with_fresh_head(cfg, trust_weights=trust_weights)
    ground_truth = load_ground_truth(cfg.DATASETS.TRAIN[0])
    images = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    if 0 < cfg.SOLVER.FIT_IMAGES < len(images):
        drawn = draw_images(ground_truth, cfg.SOLVER.FIT_IMAGES, max(cfg.SEED, 0))
        images = [image for image in images if image["image_id"] in set(drawn.tolist())]
        ground_truth = of_images(ground_truth, drawn)
    cache = SampleCache(output_dir / "samples", cache_key(cfg, model, ground_truth))
    collect_samples(
        *(cfg, model, ground_truth, images, cache),
        max_bytes=int(cache_gb * 2**30),
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
    )
    comm.synchronize()
    if comm.is_main_process():
        _fit_and_write(cfg, model, ground_truth, cache, output_dir)
        if not keep_cache:
            cache.remove()
    comm.synchronize()
    fitted = load_config(output_dir / f"{WEIGHTS}.yaml")
    fitted.MODEL.WEIGHTS = str(output_dir / f"{WEIGHTS}.pth")
    return Trainer.test(fitted, load_model(fitted)) if cfg.DATASETS.TEST else OrderedDict()


def build_with_fresh_head(cfg, *, trust_weights: bool = False) -> nn.Module:
    """Builds the model with the detector's weights and a newly initialized MaskIoU head.

    A MaskIoU head in the file is ignored, whatever its shape.

    Raises:
        UserError: if the weights are not those of the whole detector, or the head has none.
    """
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.MASKIOU_ON = False
    detector = load_model(plain, trust_weights=trust_weights)
    torch.manual_seed(max(cfg.SEED, 0))
    model = build_model(cfg).eval()
    if not list(model.roi_heads.mask_head.maskiou_head.parameters()):
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.NAME '{cfg.MODEL.ROI_MASKIOU_HEAD.NAME}' has nothing to fit"
        )
    missing, unexpected = model.load_state_dict(detector.state_dict(), strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(HEAD) for name in missing), missing
    return model


def cache_key(cfg, model: nn.Module, ground_truth: COCO) -> dict[str, str]:
    """Returns what samples depend on: the detector's weights, its config and the data."""
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not name.startswith(HEAD):
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    relevant = cfg.clone()
    relevant.defrost()
    head = relevant.MODEL.ROI_MASKIOU_HEAD
    seen = [head.INPUT, head.NAME == "MaskIoULiteHead"]  # what the head sees
    relevant.MODEL.pop("ROI_MASKIOU_HEAD")
    for key in ("WEIGHTS", "DEVICE"):
        relevant.MODEL.pop(key)
    settings = [relevant.MODEL, relevant.INPUT, relevant.TEST.DETECTIONS_PER_IMAGE, seen]
    settings.append(cfg.SOLVER.FIT_VIEWS)
    content = json.dumps(ground_truth.dataset, sort_keys=True)
    return {
        "weights": weights.hexdigest(),
        "config": hashlib.sha256(repr(settings).encode()).hexdigest(),
        "data": hashlib.sha256(content.encode()).hexdigest(),
    }


def _fit_and_write(cfg, model, ground_truth: COCO, cache: SampleCache, output_dir: Path) -> None:
    head = model.roi_heads.mask_head.maskiou_head
    number = max(round(cfg.SOLVER.FIT_HELD_OUT * len(ground_truth.imgs)), 1)
    held_out_images = draw_images(ground_truth, number, max(cfg.SEED, 0))
    of_held_out = np.isin(cache.detections.image_id, held_out_images)
    held_out = of_held_out & (cache.small["view"] == 0)
    _check_matches(cfg, cache)
    result = fit_head(head, cache, cfg, ~of_held_out, held_out)
    rows = np.flatnonzero(held_out)
    detections = cache.detections.take(rows, held_out_images)
    truth = of_images(ground_truth, held_out_images)
    max_dets = cfg.TEST.DETECTIONS_PER_IMAGE
    maskiou = predict_all(head, cache, rows)
    best, aps = choose_exponents(truth, detections, maskiou, max_dets)
    configured = cfg.MODEL.ROI_MASKIOU_HEAD
    if not cfg.SOLVER.FIT_EXPONENTS:
        best = Exponents(configured.SCORE_EXPONENT, configured.CONFIDENCE_EXPONENT)
    free = choose_free_exponent(truth, detections, max_dets)
    logger.info(
        "Exponents: MaskIoU %g, mask confidence %g; of mask confidence alone %g.", *best, free
    )
    _write(cfg, model, best, free, output_dir)
    record = _record(result, best, free, aps, held_out_images)
    write_file(output_dir / "fit.json", json.dumps(record, indent=2) + "\n")


def _record(result: FitResult, best: Exponents, free: float, aps: dict, held_out) -> dict:
    return {
        "samples": result.samples,
        "held_out_images": len(held_out),
        "held_out_loss": result.held_out_loss,
        "best_iteration": result.best_iteration,
        "exponents": best._asdict(),
        "free_confidence_exponent": free,
        "held_out_AP": {f"{each.score:g}, {each.confidence:g}": ap for each, ap in aps.items()},
        "seconds": result.seconds,
    }


def _check_matches(cfg, cache: SampleCache) -> None:
    if np.isnan(cache.small["target"]).all():
        raise UserError(
            f"none of the {len(cache)} detections on '{cfg.DATASETS.TRAIN[0]}' matches an "
            "instance: is MODEL.WEIGHTS trained on this data?"
        )


def draw_images(ground_truth: COCO, number: int, seed: int) -> np.ndarray:
    """Draws images of a dataset at random.

    Returns:
        Their ids in increasing order.
    """
    ids = np.array(sorted(ground_truth.imgs))
    return np.sort(np.random.default_rng([seed, len(ids)]).choice(ids, number, replace=False))


def of_images(ground_truth: COCO, image_ids: np.ndarray) -> COCO:
    """Returns the part of a dataset that some images make up."""
    kept, content = set(image_ids.tolist()), ground_truth.dataset
    part = COCO()
    part.dataset = {
        **content,
        "images": [image for image in content["images"] if image["id"] in kept],
        "annotations": [a for a in content["annotations"] if a["image_id"] in kept],
    }
    part.createIndex()
    return part


def _write(cfg, model, exponents: Exponents, free: float, output_dir: Path) -> None:
    """Writes the checkpoint and its config."""
    MaskScoringCheckpointer(model, str(output_dir)).save(WEIGHTS)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = f"{WEIGHTS}.pth"
    cfg.MODEL.ROI_MASKIOU_HEAD.SCORE_EXPONENT = exponents.score
    cfg.MODEL.ROI_MASKIOU_HEAD.CONFIDENCE_EXPONENT = exponents.confidence
    cfg.TEST.CONFIDENCE_EXPONENT = free
    write_file(output_dir / f"{WEIGHTS}.yaml", cfg.dump())
