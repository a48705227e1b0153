"""Loads a trained model."""

import logging

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from ..checkpoint import MaskScoringCheckpointer
from ..checkpoint.class_layers import MASKIOU_HEAD
from ..checkpoint.load_report import LoadReport
from ..config_by_key import WITHOUT_HEAD, changed
from ..errors import UserError
from .build_errors import config_errors
from .device import on_available_device

logger = logging.getLogger(__name__)

UNUSED = "num_batches_tracked"  # by a batch norm in evaluation mode


class NoMaskScoresError(UserError):
    """The weights are those of the whole model, except for its MaskIoU head."""


def load_with_its_scores(
    cfg: CfgNode, *, trust_weights: bool = False
) -> tuple[CfgNode, torch.nn.Module]:
    """Builds the model of the given weights, with a MaskIoU head only if they have one.

    The checkpoints of a training with ``SOLVER.FIT_SCORES`` have none before the fit.

    Args:
        cfg, trust_weights: see :func:`load_model`.

    Returns:
        The config of the model, and the model in evaluation mode.

    Raises:
        UserError: see :func:`load_model`.
    """
    try:
        return cfg, load_model(cfg, trust_weights=trust_weights)
    except NoMaskScoresError:
        logger.warning(
            "'%s' has no mask scores, only box scores; `msrcnn fit-scores` adds them",
            cfg.MODEL.WEIGHTS,
        )
    plain = changed(cfg, WITHOUT_HEAD)
    return plain, load_model(plain, trust_weights=trust_weights)


def load_model(
    cfg: CfgNode, *, resume: bool = False, trust_weights: bool = False
) -> torch.nn.Module:
    """Builds the model of a config and loads its weights, for evaluation or prediction.

    Args:
        cfg: the config.
        resume: use the last checkpoint of the output folder instead of ``MODEL.WEIGHTS``.
        trust_weights: load weights that are not plain data, and run the code in them.

    Returns:
        The model, in evaluation mode.

    Raises:
        UserError: if there are no weights, or they cannot be loaded or do not fit the whole model.
    """
    with config_errors():
        model = build_model(on_available_device(cfg))
    checkpointer = MaskScoringCheckpointer(model, cfg.OUTPUT_DIR, trusted=trust_weights)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if checkpointer.report is None:
        raise UserError("no weights to load: set MODEL.WEIGHTS, or give --weights")
    _check_complete(checkpointer.report, model)
    return model.eval()


def _check_complete(report: LoadReport, model: torch.nn.Module) -> None:
    """Rejects weights that leave a part of the model random: fine in training, wrong here."""
    fresh = [*report.fresh, *(name for names in report.remade.values() for name in names)]
    fresh = [name for name in fresh if not name.endswith(UNUSED)]
    if not fresh:
        return
    problem = (
        f"'{report.source}' lacks {len(fresh)} of the model's tensors, the first '{fresh[0]}': its "
        "output would be random. "
    )
    head = (name for name in model.state_dict() if name.startswith(MASKIOU_HEAD))
    if not report.remade and set(fresh) == {name for name in head if not name.endswith(UNUSED)}:
        raise NoMaskScoresError(
            f"{problem}The weights have no mask scores: add them with `msrcnn fit-scores`, or use "
            "a config with MODEL.MASKIOU_ON False"
        )
    raise UserError(f"{problem}Use the config that the weights were trained with, or train further")
