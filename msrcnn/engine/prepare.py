"""From a config file and overrides to a complete, checked config: the one way to set up a run.

Everything that takes a config afterwards (trainer, evaluation, prediction, sweeps) assumes that it
is valid.
"""

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ..checkpoint import resolve_weights
from ..checkpoint.checkpoint_files import resumable_checkpoints
from ..class_names import listed
from ..config import load_config
from ..data.custom import use_custom_data
from ..data.registered import check_data
from ..errors import UserError
from .config_rules import check_config
from .config_values import check_amp
from .device import check_device, on_available_device
from .find_model import find_model
from .model_classes import use_class_names
from .scoring_parts import use_scoring_parts

NUM_CLASSES = "MODEL.ROI_HEADS.NUM_CLASSES"


def prepare_config(
    config_file: str | Path,
    opts: Sequence[str] = (),
    *,
    train_data: Sequence[str] = (),
    val_data: Sequence[str] = (),
    splits: Sequence[str] = (),
    resume: bool = False,
    keep_classes: bool = False,
) -> CfgNode:
    """Loads a config, points it at the data, selects the heads that it needs and checks it.

    Args:
        config_file: path of the file, or its name relative to ``configs/``.
        opts: alternating keys and values that override the file.
        train_data: custom data to train on, each as ``ANN.json:IMAGES``.
        val_data: custom data to evaluate on, each as ``ANN.json:IMAGES``.
        splits: the datasets that the run uses, to check: ``"TRAIN"``, ``"TEST"``, both or none.
        resume: the run resumes from a checkpoint in ``OUTPUT_DIR`` if there is one, so that
            ``MODEL.WEIGHTS`` may be gone.
        keep_classes: the run uses ``"TRAIN"``, but the model keeps the classes of its weights.

    Returns:
        The config, not frozen.

    Raises:
        UserError: for any mistake in the config, the overrides, the data or the weights' name.
    """
    cfg = load_config(config_file, opts)
    use_custom_data(cfg, train_data, val_data, keep_test="DATASETS.TEST" in opts[::2])
    use_scoring_parts(cfg)
    check_config(cfg)
    if "TRAIN" in splits and not keep_classes:
        check_amp(cfg)
    if cfg.MODEL.WEIGHTS and not (resume and resumable_checkpoints(Path(cfg.OUTPUT_DIR))):
        _check_weights(cfg.MODEL.WEIGHTS)
    check_data(cfg, splits)
    number = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    use_class_names(cfg, splits, resume=resume, keep_classes=keep_classes)
    if NUM_CLASSES in opts[::2] and cfg.MODEL.ROI_HEADS.NUM_CLASSES != number:
        raise UserError(
            f"command line: {NUM_CLASSES} is {number}, but data or weights have "
            f"{listed(cfg.DATASETS.CLASS_NAMES)}: leave it out, it follows from them"
        )
    return cfg


def prepare_model_config(
    weights: str, config_file: str = "", *, device: str | None = None, dtype: str | None = None
) -> CfgNode:
    """Returns the config of a trained model, to predict with it or to export it.

    Args:
        weights: the model, see :func:`~.find_model.find_model`; with a config also a URL.
        config_file: config of the model; by default the one that belongs to the weights.
        device: replaces ``MODEL.DEVICE``.
        dtype: replaces ``TEST.DTYPE``.

    Returns:
        The config, frozen.

    Raises:
        UserError: if the config or the weights are missing, the config has a mistake, the machine
            has no such device, or the device does not support the number format.
    """
    if device:
        check_device(device)
    weights, config_file = find_model(weights, config_file)
    changes = {"MODEL.WEIGHTS": weights, "MODEL.DEVICE": device, "TEST.DTYPE": dtype}
    opts = [text for key, value in changes.items() if value is not None for text in (key, value)]
    cfg = prepare_config(config_file, opts)
    if dtype and on_available_device(cfg).TEST.DTYPE != dtype:
        raise UserError(f"'{dtype}' needs a GPU, but the model runs on the CPU: use 'bfloat16'")
    cfg.freeze()
    return cfg


def _check_weights(weights: str) -> None:
    try:
        resolve_weights(weights)
    except UserError as error:
        raise UserError(f"MODEL.WEIGHTS {error}") from error
