"""Fits a MaskIoU head to cached samples."""

import contextlib
import copy
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import UserError
from ..modeling.detection_samples import FALSE_POSITIVES_PER_MATCH
from ..modeling.maskiou_loss import maskiou_loss
from ..modeling.maskiou_samples import NEUTRAL_AREA
from .progress_bar import progress_bar
from .sample_cache import SampleCache

logger = logging.getLogger(__name__)

CHECKS = 6  # evaluations of the held-out loss, evenly over the fit
BATCH_AT_TEST = 512


@dataclass(frozen=True)
class FitResult:
    """The outcome of a fit, besides the head.

    Attributes:
        samples: number of detections that the head was fitted to.
        held_out_loss: loss on the held-out samples, by iteration.
        best_iteration: the iteration whose head was kept.
        seconds: duration.
    """

    samples: int
    held_out_loss: dict[int, float]
    best_iteration: int
    seconds: float


def fit_seed(cfg) -> int:
    """Returns the seed of a fit: ``SEED``, or 0 if it is negative."""
    return max(cfg.SEED, 0)


class SampleRows:
    """Which cached samples make up an epoch, as rows of the cache.

    Every epoch has all matched detections; with ``ONE_PER_INSTANCE``, duplicates do not count as
    matched. With ``FALSE_POSITIVES "zero"``, twice as many detections without an instance are drawn
    for each epoch, with a target of 0; with ``"ignore"``, none.
    """

    def __init__(self, cache: SampleCache, cfg, among: np.ndarray):
        """
        Args:
            cache: the samples.
            cfg: reads ``MODEL.ROI_MASKIOU_HEAD``.
            among: bool array of shape (N,), the samples to use.
        """
        head, small = cfg.MODEL.ROI_MASKIOU_HEAD, cache.small
        matched = ~np.isnan(small["target"])
        if head.ONE_PER_INSTANCE:
            matched &= ~small["duplicate"]
        # As in training on proposals, a matched mask without any overlap is not a sample.
        good = matched & (np.nan_to_num(small["target"]) > head.MASKIOU_THRESH)
        self.matched = np.flatnonzero(among & good)
        false_positives = among & small["usable"] & ~matched
        if head.FALSE_POSITIVES == "ignore":
            false_positives[:] = False
        self.false_positives = np.flatnonzero(false_positives)

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the rows of one epoch, in random order."""
        number = min(FALSE_POSITIVES_PER_MATCH * len(self.matched), len(self.false_positives))
        drawn = rng.choice(self.false_positives, number, replace=False)
        return rng.permutation(np.concatenate([self.matched, drawn]))


def fit_head(
    head: nn.Module, cache: SampleCache, cfg, fitted: np.ndarray, held_out: np.ndarray
) -> FitResult:
    """Fits a MaskIoU head with AdamW and a one-cycle learning rate.

    Args:
        head: modified in place; ends with the weights of the lowest loss on the held-out samples.
        cache: the samples.
        cfg: reads ``SOLVER.FIT_*``, ``SEED`` and ``MODEL.ROI_MASKIOU_HEAD``.
        fitted: bool array of shape (N,), samples to train on.
        held_out: bool array of shape (N,), samples to choose the iteration on. Without any, the
            head of the last iteration is kept.

    Raises:
        UserError: if there is nothing to fit to, or the fit diverges.
    """
    solver, start = cfg.SOLVER, time.perf_counter()
    rng = np.random.default_rng(fit_seed(cfg))
    train, test = SampleRows(cache, cfg, fitted), SampleRows(cache, cfg, held_out)
    if not len(train.matched):
        thresh = cfg.MODEL.ROI_MASKIOU_HEAD.MASKIOU_THRESH
        raise UserError(
            f"none of the {fitted.sum()} detections to fit to matches an instance with a "
            f"MaskIoU above {thresh:g}: is MODEL.WEIGHTS trained on this data? If it is, use more "
            "images (SOLVER.FIT_IMAGES), or hold fewer out (SOLVER.FIT_HELD_OUT)"
        )
    device = next(head.parameters()).device
    test_rows = test.epoch(np.random.default_rng(0))  # the same each time
    _set_scalar_norm(head, cache, train.epoch(rng))
    optimizer = build_optimizer(head, cfg)
    steps = solver.FIT_MAX_ITER
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, solver.FIT_BASE_LR, steps)
    batches = _batches(train, solver.FIT_BATCH, rng)
    losses: dict[int, float] = {}
    best = copy.deepcopy(head.state_dict())
    check_at = {round(steps * (i + 1) / CHECKS) for i in range(CHECKS)}
    with fitting(head):
        for step in progress_bar(range(1, steps + 1), desc="Fit", unit="iteration"):
            fit_step(head, optimizer, cache.batch(next(batches), device), cfg)
            scheduler.step()
            if step in check_at and len(test_rows):
                loss = _held_out_loss(head, cache, test_rows, cfg, device)
                if not math.isfinite(loss):
                    raise _diverged(step, cfg)
                if loss < min(losses.values(), default=math.inf):
                    best = copy.deepcopy(head.state_dict())
                losses[step] = loss
    if losses:
        head.load_state_dict(best)
    elif not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise _diverged(steps, cfg)
    result = FitResult(
        samples=len(train.matched) + len(train.false_positives),
        held_out_loss=losses,
        best_iteration=min(losses, key=lambda step: losses[step]) if losses else steps,
        seconds=time.perf_counter() - start,
    )
    logger.info(
        "Fitted the MaskIoU head to %d detections with an instance and %d without in %.0f s.",
        len(train.matched),
        len(train.false_positives),
        result.seconds,
    )
    return result


def _diverged(step: int, cfg) -> UserError:
    return UserError(
        f"the fit diverged before iteration {step}: lower SOLVER.FIT_BASE_LR "
        f"({cfg.SOLVER.FIT_BASE_LR:g})"
    )


def _batches(rows: SampleRows, size: int, rng: np.random.Generator):
    """Yields the rows of batches, epoch after epoch."""
    left = np.zeros(0, dtype=np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, rows.epoch(rng)])
        yield left[:size]
        left = left[size:]


@contextlib.contextmanager
def fitting(head: nn.Module) -> Iterator[None]:
    """Prepares a head for the iterations of a fit, and then for inference."""
    head.train()
    if next(head.parameters()).device.type == "cpu":  # an iteration takes a fifth less time
        head.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        head.to(memory_format=torch.contiguous_format).eval()


def build_optimizer(head: nn.Module, cfg) -> torch.optim.Optimizer:
    """Builds the optimizer of a fit."""
    solver = cfg.SOLVER
    return torch.optim.AdamW(
        head.parameters(), lr=solver.FIT_BASE_LR, weight_decay=solver.FIT_WEIGHT_DECAY
    )


def fit_step(
    head: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor], cfg
) -> None:
    """Makes one iteration of a fit on a batch of :meth:`~.sample_cache.SampleCache.batch`."""
    loss = _loss(head, batch, cfg)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def predict_maskiou(head: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Predicts the MaskIoU of each sample's class, of shape (K,), not clamped."""
    inputs = [batch["features"], batch["mask_logits"], batch["classes"]]
    if getattr(head, "scalar_norm", None) is not None:
        inputs.append(batch["scalars"][:, head.scalar_norm.columns])
    return head(*inputs).gather(1, batch["classes"][:, None])[:, 0]


def _loss(head: nn.Module, batch: dict[str, torch.Tensor], cfg) -> torch.Tensor:
    settings = cfg.MODEL.ROI_MASKIOU_HEAD
    target = batch["target"].nan_to_num(0.0)
    if settings.ONE_PER_INSTANCE:
        target = target.masked_fill(batch["duplicate"], 0.0)
    return maskiou_loss(
        predict_maskiou(head, batch),
        target,
        loss_type=settings.LOSS_TYPE,
        threshold=-1.0 if settings.FALSE_POSITIVES == "zero" else settings.MASKIOU_THRESH,
        area=batch["area"].nan_to_num(NEUTRAL_AREA),
    )


@torch.no_grad()
def _held_out_loss(head, cache: SampleCache, rows: np.ndarray, cfg, device) -> float:
    head.eval()
    losses = [
        (_loss(head, batch, cfg).item(), len(batch["target"]))
        for batch in cache.batches(rows, BATCH_AT_TEST, device)
    ]
    head.train()
    total = sum(number for _, number in losses)
    return sum(loss * number for loss, number in losses) / total


@torch.no_grad()
def _set_scalar_norm(head: nn.Module, cache: SampleCache, rows: np.ndarray) -> None:
    """Sets mean and deviation of the scalars to those of the samples."""
    norm = getattr(head, "scalar_norm", None)
    if norm is not None and len(rows):
        scalars = torch.from_numpy(cache.small["scalars"][rows, norm.columns])
        norm.mean.copy_(scalars.mean(dim=0))
        norm.std.copy_(scalars.std(dim=0, unbiased=False).clamp(min=1e-3))


@torch.no_grad()
def predict_all(head: nn.Module, cache: SampleCache, rows: np.ndarray) -> np.ndarray:
    """Predicts the MaskIoU of cached detections.

    Args:
        head: the MaskIoU head, in evaluation mode.
        cache: the samples.
        rows: indices of K samples.

    Returns:
        Float32 array of shape (K,), in [0, 1].
    """
    device = next(iter(head.parameters()), torch.zeros(())).device
    found = [
        predict_maskiou(head, batch).clamp(0, 1).cpu().numpy()
        for batch in cache.batches(rows, BATCH_AT_TEST, device)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)
