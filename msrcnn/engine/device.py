"""The device that a run uses."""

import functools
import logging

import torch
from detectron2.config import CfgNode

from ..errors import UserError
from ..modeling.number_format import DTYPES

logger = logging.getLogger(__name__)


def on_available_device(cfg: CfgNode) -> CfgNode:
    """Returns a config for this machine: for the CPU if it asks for CUDA and there is no GPU.

    The config itself is not modified, so that the files of a run say what was asked for, and also
    hold on a machine with a GPU. Whoever builds a model or a trainer calls this function.
    """
    if not cfg.MODEL.DEVICE.startswith("cuda") or torch.cuda.is_available():
        return cfg
    _log_once()
    frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    if cfg.SOLVER.AMP.DTYPE == "float16":  # whose scaled gradients require CUDA
        cfg.SOLVER.AMP.ENABLED = False
    if cfg.TEST.DTYPE == "float16":
        cfg.TEST.DTYPE = "float32"
    if frozen:
        cfg.freeze()
    return cfg


def inference_dtype(cfg: CfgNode) -> torch.dtype:
    """Returns the number format of ``TEST.DTYPE``; float32 for float16 without a GPU."""
    return DTYPES[on_available_device(cfg).TEST.DTYPE]


def check_device(name: str) -> None:
    """Rejects a device that was asked for but that this machine does not have.

    Raises:
        UserError: naming the device.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # CUDA, MPS: PyTorch was built without it
        reason = str(error).partition("\n")[0]
        raise UserError(f"device '{name}' cannot be used here: {reason}") from error


@functools.cache
def _log_once() -> None:
    logger.info("No GPU found: running on the CPU.")
