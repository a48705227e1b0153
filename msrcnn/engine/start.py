"""The start of a run in each of its processes: data, log, schedule."""

import argparse
import logging

from detectron2.config import CfgNode
from detectron2.engine import default_setup

from ..data.custom import is_custom_dataset, register_custom_datasets
from .run_log import start_log
from .schedule import scale_schedule
from .scoring_parts import register_mask_head

logger = logging.getLogger(__name__)


def start_run(cfg: CfgNode, *, config_file: str = "", eval_only: bool = False) -> CfgNode:
    """Starts the log of a run, and registers its data.

    Args:
        cfg: a config from :func:`prepare_config`; not modified.
        config_file: the file that it was loaded from, for the log.
        eval_only: the run does not train.

    Returns:
        The config of the run, frozen; also written to ``OUTPUT_DIR/config.yaml``.
    """
    cfg = cfg.clone()
    cfg.defrost()
    # Processes that were spawned share neither the catalog of datasets nor the registries.
    register_custom_datasets(cfg)
    register_mask_head(cfg)
    start_log(cfg.OUTPUT_DIR)
    if any(map(is_custom_dataset, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))):
        logger.info(
            "Custom data: %d classes, masks as %s.",
            cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            cfg.INPUT.MASK_FORMAT,
        )
    if not eval_only:
        for note in scale_schedule(cfg):
            logger.info(note)
    cfg.freeze()
    default_setup(cfg, argparse.Namespace(config_file=config_file, eval_only=eval_only))
    return cfg
