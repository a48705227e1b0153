"""The device that a run uses."""

import logging

import torch
from detectron2.config import CfgNode

logger = logging.getLogger(__name__)


def use_available_device(cfg: CfgNode) -> None:
    """Sets ``MODEL.DEVICE`` to the CPU if the config asks for CUDA and there is no GPU.

    Args:
        cfg: modified in place.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        cfg.SOLVER.AMP.ENABLED = False  # Detectron2's mixed precision requires CUDA
        logger.info("No GPU found: running on the CPU.")
