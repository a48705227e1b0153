"""Logs a training to Weights & Biases (``WANDB``)."""

from types import ModuleType

import numpy as np
import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from ..errors import UserError

WINDOW = 20  # values are medians over this many steps, as in TensorBoard's log


def check_wandb(cfg: CfgNode) -> None:
    """Rejects ``WANDB`` without its package.

    Raises:
        UserError: saying how to install it.
    """
    if cfg.WANDB:
        _package(cfg)


class WandbWriter(EventWriter):
    """Logs what TensorBoard gets: losses, metrics of evaluations, plots and predictions.

    Runs before ``TensorboardXWriter``, which clears the images.
    """

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: config of the run; ``WANDB`` is the project.
        """
        self._cfg, self._run, self._logged = cfg, None, -1

    def start(self, *, resumed: bool) -> None:
        """Starts a run, or continues that of a training in the same output folder.

        Raises:
            UserError: if Weights & Biases cannot be used, such as without a login.
        """
        self._wandb = _package(self._cfg)
        try:
            self._run = self._wandb.init(
                project=self._cfg.WANDB,
                dir=self._cfg.OUTPUT_DIR,
                config=yaml.safe_load(self._cfg.dump()),
                resume="auto" if resumed else None,
            )
        except self._wandb.Error as error:
            raise UserError(f"WANDB {self._cfg.WANDB!r}: {error}") from error

    def write(self) -> None:
        if self._run is None:  # the training has failed before its first step
            return
        storage, values = get_event_storage(), {}
        for name, (value, step) in storage.latest_with_smoothing_hint(WINDOW).items():
            if step > self._logged:
                values[name] = value
        for name, picture, _ in storage._vis_data:
            values[name] = self._wandb.Image(np.asarray(picture).transpose(1, 2, 0))
        self._run.log(values, step=storage.iter)
        self._logged = storage.iter

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()


def _package(cfg: CfgNode) -> ModuleType:
    try:
        import wandb
    except ImportError as error:
        raise UserError(f"WANDB {cfg.WANDB!r} needs the package: pip install wandb") from error
    return wandb
