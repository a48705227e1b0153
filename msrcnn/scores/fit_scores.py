"""Adds mask scores to a trained detector: one pass over its training images, then a fit."""

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from pycocotools.coco import COCO
from torch import nn

from ..atomic_file import write_file
from ..checkpoint import MaskScoringCheckpointer
from ..checkpoint.checkpoint_files import FIT_RECORD, FITTED
from ..checkpoint.class_layers import MASKIOU_HEAD
from ..config import load_config
from ..config_by_key import WITHOUT_HEAD, changed
from ..engine import Trainer
from ..engine.device import on_available_device
from ..engine.load_model import load_model
from ..errors import UserError
from ..evaluation.ground_truth import dataset_record, index_dataset, of_images
from ..modeling.fast_inference import fast_inference
from ..modeling.mask_score import mask_score
from ..modeling.maskiou_head import has_training
from ..provenance import file_record, software
from .cache_key import cache_key
from .calibration import Calibration, fit_calibration, right_masks
from .core_processes import share_among_cores
from .exponents import Exponents, choose_exponents, choose_free_exponent
from .fit import FitResult, fit_head, fit_seed, predict_all
from .joined_datasets import JoinedDatasets
from .sample_cache import CACHE_GB, SampleCache
from .sample_pass import collect_samples, sample_parts

logger = logging.getLogger(__name__)

FEW_IMAGES = 20  # with fewer held-out images, what is chosen on them is a matter of chance
CACHE = "samples"  # folder of the cache in OUTPUT_DIR; in a sweep, in the detector's folder
# Defaults of a fit, as alternating keys and values. Those of a config are the paper's.
FIT_DEFAULTS = (
    *("MODEL.MASKIOU_ON", True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections"),
    *("MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES", "zero"),
    *("MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS", True),
    *("SOLVER.FIT_SCORES", True),
)


def fit_scores(
    cfg, *, cache_gb: float = CACHE_GB, keep_cache: bool = False, trust_weights: bool = False
) -> OrderedDict:
    """Fits a fresh MaskIoU head to the detections of a trained detector, and evaluates it.

    The cache is the folder ``samples`` in ``OUTPUT_DIR``.

    Args:
        cfg: see :class:`ScoreFit`.
        cache_gb: see :meth:`ScoreFit.collect`.
        keep_cache: keep the cache, so that another fit starts at once.
        trust_weights: see :class:`ScoreFit`.

    Returns:
        See :meth:`ScoreFit.evaluate`.

    Raises:
        UserError: see :class:`ScoreFit` and :meth:`ScoreFit.fit`.
    """
    scores = ScoreFit(cfg, Path(cfg.OUTPUT_DIR) / CACHE, trust_weights=trust_weights)
    scores.collect(cache_gb)
    scores.fit()
    if not keep_cache and comm.is_main_process():
        scores.cache.remove()
    return scores.evaluate()


def check_fit(cfg) -> None:
    """Rejects a config whose MaskIoU head cannot be fitted to detections.

    Raises:
        UserError: naming the key to change.
    """
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    if not cfg.MODEL.MASKIOU_ON:
        raise UserError("a fit of mask scores needs MODEL.MASKIOU_ON True")
    if not has_training(head.NAME):
        raise UserError(f"MODEL.ROI_MASKIOU_HEAD.NAME '{head.NAME}' has nothing to fit")
    if head.SAMPLES != "detections":
        raise UserError(
            "mask scores are fitted to detections: set MODEL.ROI_MASKIOU_HEAD.SAMPLES detections"
        )
    same = set(cfg.INPUT.MIN_SIZE_TRAIN) == {cfg.INPUT.MIN_SIZE_TEST}
    if cfg.SOLVER.FIT_VIEWS > 1 and same and cfg.INPUT.RANDOM_FLIP != "horizontal":
        raise UserError(
            f"the views of SOLVER.FIT_VIEWS {cfg.SOLVER.FIT_VIEWS} would be the same: set other "
            "sizes as INPUT.MIN_SIZE_TRAIN, or INPUT.RANDOM_FLIP horizontal"
        )


class ScoreFit:
    """Mask scores for a trained detector, in three steps: the pass, the fit and the evaluation.

    The detector's weights do not change. The pass fills a cache, which other fits of the same
    detector can use, also at the same time. Every process of a run calls every step.
    """

    def __init__(self, cfg, cache_dir: Path, *, trust_weights: bool = False):
        """
        Args:
            cfg: a config from :func:`msrcnn.engine.start_run` with the detector in
                ``MODEL.WEIGHTS``.
            cache_dir: folder of the cache; created if missing.
            trust_weights: see :func:`msrcnn.engine.load_model.load_model`.

        Raises:
            UserError: see :func:`check_fit`; if the weights do not fit, or the cache was made from
                something else.
        """
        check_fit(cfg)
        self._cfg, self._output_dir = cfg, Path(cfg.OUTPUT_DIR)
        self._model = build_with_fresh_head(cfg, trust_weights=trust_weights)
        self._data = JoinedDatasets(cfg.DATASETS.TRAIN)
        self._ground_truth = self._data.ground_truth
        if 0 < cfg.SOLVER.FIT_IMAGES < len(self._ground_truth.imgs):
            drawn = draw_images(self._ground_truth.imgs, cfg.SOLVER.FIT_IMAGES, fit_seed(cfg))
            self._ground_truth = _part(self._ground_truth, drawn)
        self.cache = SampleCache(cache_dir, cache_key(cfg, self._model, self._ground_truth))

    def collect(self, cache_gb: float = CACHE_GB) -> None:
        """Runs the detector over its training images, unless the cache has all samples.

        Args:
            cache_gb: bounds the size of the cache on disk.

        Raises:
            UserError: if the processes do not share the folder of the cache, or it has samples that
                were made with another limit.
        """
        self.cache.limit(cache_gb)
        kept = self._ground_truth.imgs
        images = [image for image in self._data.images() if image["image_id"] in kept]
        collect = partial(
            collect_samples,
            self._cfg,
            self._model,
            self._ground_truth,
            images,
            self.cache,
            max_bytes=int(cache_gb * 2**30),
        )
        with fast_inference(self._model):
            if comm.get_world_size() == 1 and next(self._model.parameters()).device.type == "cpu":
                share_among_cores(collect)
            else:
                collect(rank=comm.get_rank(), world_size=comm.get_world_size())
        comm.synchronize()
        if comm.is_main_process():
            self.cache.mark_complete(len(sample_parts(self._cfg, images)))
            if left_out := self.cache.left_out:
                logger.info(
                    "The cache holds %d of %d detections: --cache-gb %g has no room for more.",
                    len(self.cache),
                    len(self.cache) + left_out,
                    cache_gb,
                )

    def fit(self) -> None:
        """Fits the head to the samples, which :meth:`collect` has completed.

        Writes ``model_fitted.pth`` with its config beside it, and then ``fit.json``, to
        ``OUTPUT_DIR``. Depends on the config and the samples alone.

        Raises:
            UserError: see :func:`~.fit.fit_head`.
        """
        if comm.is_main_process():
            self._fit()
        comm.synchronize()

    def evaluate(self) -> OrderedDict:
        """Evaluates the fitted model, loaded from ``OUTPUT_DIR``.

        Returns:
            The metrics; empty if ``DATASETS.TEST`` is empty.
        """
        if not self._cfg.DATASETS.TEST:
            return OrderedDict()
        fitted = load_config(self._output_dir / f"{FITTED}.yaml")
        return Trainer.test(fitted, load_model(fitted))

    def _fit(self) -> None:
        cfg, head = self._cfg, self._model.roi_heads.mask_head.maskiou_head
        images = self._held_out_images()
        of_held_out = np.isin(self.cache.detections.image_id, images)
        held_out = of_held_out & (self.cache.small["view"] == 0)
        result = fit_head(head, self.cache, cfg, ~of_held_out, held_out)
        rows = np.flatnonzero(held_out)
        detections = self.cache.detections.take(rows, images)
        truth = _part(self._ground_truth, images)
        configured = cfg.MODEL.ROI_MASKIOU_HEAD
        best = Exponents(configured.SCORE_EXPONENT, configured.CONFIDENCE_EXPONENT)
        free, aps = cfg.TEST.CONFIDENCE_EXPONENT, {}
        max_dets = cfg.TEST.DETECTIONS_PER_IMAGE
        maskiou = predict_all(head, self.cache, rows)
        if cfg.SOLVER.FIT_EXPONENTS:
            best, aps = choose_exponents(truth, detections, maskiou, max_dets, best)
            free = choose_free_exponent(truth, detections, max_dets, free)
        logger.info(
            "Exponents: MaskIoU %g, mask confidence %g; of mask confidence alone %g.", *best, free
        )
        scores = mask_score(
            detections.score,
            maskiou,
            detections.mask_confidence,
            score_exponent=best.score,
            confidence_exponent=best.confidence,
        )
        calibration = fit_calibration(scores, right_masks(truth, detections, scores))
        _write(cfg, self._model, best, calibration, free, self._output_dir)
        record = {
            **_record(result, best, free, aps, images),
            "calibration": calibration and calibration._asdict(),
            "provenance": {
                "software": software(),
                "datasets": [dataset_record(name) for name in cfg.DATASETS.TRAIN],
                "weights": file_record(cfg.MODEL.WEIGHTS),
                "seed": fit_seed(cfg),
            },
        }
        write_file(self._output_dir / FIT_RECORD, json.dumps(record, indent=2) + "\n")

    def _held_out_images(self) -> np.ndarray:
        """Returns the ids of the images that the head is not fitted to.

        All of their detections are in the cache: AP and calibration depend on all detections of an
        image.
        """
        number = max(round(self._cfg.SOLVER.FIT_HELD_OUT * len(self._ground_truth.imgs)), 1)
        among = self.cache.whole_images
        if among is None:
            among = sorted(self._ground_truth.imgs)
        elif len(among) < min(number, FEW_IMAGES):
            logger.warning(
                "The cache holds all detections of only %d images, on which the best iteration, "
                "exponents and calibration are chosen: raise --cache-gb, or lower "
                "SOLVER.FIT_IMAGES.",
                len(among),
            )
        return draw_images(among, min(number, len(among)), fit_seed(self._cfg))


def build_with_fresh_head(cfg, *, trust_weights: bool = False) -> nn.Module:
    """Builds the model with the detector's weights and a newly initialized MaskIoU head.

    A MaskIoU head in the file is ignored, even if its shapes differ.

    Raises:
        UserError: if the weights are not those of the whole detector.
    """
    detector = load_model(changed(cfg, WITHOUT_HEAD), trust_weights=trust_weights)
    torch.manual_seed(fit_seed(cfg))
    model = build_model(on_available_device(cfg)).eval()
    missing, unexpected = model.load_state_dict(detector.state_dict(), strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith(MASKIOU_HEAD) for name in missing), missing
    return model


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


def draw_images(images: Iterable[int], number: int, seed: int) -> np.ndarray:
    """Draws images at random.

    Args:
        images: ids of all images.
        number: how many to draw.
        seed: seed of the draw.

    Returns:
        Their ids in increasing order.
    """
    ids = np.array(sorted(images), dtype=np.int64)
    return np.sort(np.random.default_rng([seed, len(ids)]).choice(ids, number, replace=False))


def _part(ground_truth: COCO, images: np.ndarray) -> COCO:
    return index_dataset(of_images(ground_truth, set(images.tolist())))


def _write(
    cfg,
    model,
    exponents: Exponents,
    calibration: Calibration | None,
    free: float,
    output_dir: Path,
) -> None:
    """Writes the checkpoint and its config."""
    names = cfg.DATASETS.CLASS_NAMES
    MaskScoringCheckpointer(model, str(output_dir), class_names=names).save(FITTED)
    fitted = {
        "MODEL.WEIGHTS": f"{FITTED}.pth",
        "MODEL.ROI_MASKIOU_HEAD.SCORE_EXPONENT": exponents.score,
        "MODEL.ROI_MASKIOU_HEAD.CONFIDENCE_EXPONENT": exponents.confidence,
        "MODEL.ROI_MASKIOU_HEAD.CALIBRATION": tuple(calibration or ()),
        "TEST.CONFIDENCE_EXPONENT": free,
    }
    write_file(output_dir / f"{FITTED}.yaml", changed(cfg, fitted).dump())
