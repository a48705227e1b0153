"""The device that a run uses."""

import functools
import logging

import torch
from detectron2.config import CfgNode

from ..errors import UserError
from ..modeling.number_format import DTYPES

logger = logging.getLogger(__name__)


def on_available_device(cfg: CfgNode) -> CfgNode:
    """Returns a config for this machine: for the CPU if the machine lacks the config's device.

    On the CPU, the formats of the config that need a GPU become float32: ``SOLVER.AMP`` is
    disabled if it is float16, and ``TEST.DTYPE`` float16 is replaced.

    The config itself is not modified, so that the files of a run record what was asked for, and can
    be used on a machine with a GPU. Call this function before building a model or a trainer.
    """
    device = cfg.MODEL.DEVICE
    if not _is_available(device):
        _log_once(f"No device '{device}' found: running on the CPU.")
    elif not device.startswith("cpu"):
        return cfg
    frozen, cfg = cfg.is_frozen(), cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "cpu"
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16":
        _log_once("SOLVER.AMP in float16 needs a GPU: training would compute in float32.")
        cfg.SOLVER.AMP.ENABLED = False
    if cfg.TEST.DTYPE == "float16":
        _log_once("TEST.DTYPE 'float16' needs a GPU: computing in float32.")
        cfg.TEST.DTYPE = "float32"
    if frozen:
        cfg.freeze()
    return cfg


def inference_dtype(cfg: CfgNode) -> torch.dtype:
    """Returns the number format of ``TEST.DTYPE``; float32 for float16 on the CPU."""
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


def _is_available(name: str) -> bool:
    """Whether this machine has a device; does not initialize CUDA, as processes may be forked."""
    device = torch.device(name)
    if device.type == "cuda":
        number = device.index or 0
        return torch.cuda.is_available() and (number == 0 or number < torch.cuda.device_count())
    return device.type != "mps" or torch.backends.mps.is_available()


@functools.cache
def _log_once(message: str) -> None:
    logger.info(message)
