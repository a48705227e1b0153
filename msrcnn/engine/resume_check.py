"""Checks that a run continues the one in its output folder, before it writes anything there."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ..checkpoint import load_checkpoint_file
from ..checkpoint.checkpoint_files import load_latest
from ..checkpoint.load_report import Mismatch, make_report
from ..config_by_key import changed, value_of
from ..errors import UserError
from ..modeling.train_only import train_only
from .gradient_step import scales_gradients
from .optimizer import build_optimizer
from .scoring_parts import register_mask_head

# Keys that change the meaning of weights or of the optimizer's state without changing the shape of
# a tensor, and keys that the optimizer and the schedule of a checkpoint override, so that new
# values would have no effect.
SETTINGS = (
    "INPUT.FORMAT",
    "MODEL.FPN.FUSE_TYPE",
    "MODEL.RESNETS.STRIDE_IN_1X1",
    "MODEL.ROI_MASKIOU_HEAD.INPUT",
    "SOLVER.BASE_LR",
    "SOLVER.BIAS_LR_FACTOR",
    "SOLVER.MOMENTUM",
    "SOLVER.NESTEROV",
    "SOLVER.OPTIMIZER",
    "SOLVER.WEIGHT_DECAY",
    "SOLVER.WEIGHT_DECAY_BIAS",
    "SOLVER.WEIGHT_DECAY_NORM",
)


def identity(cfg: CfgNode, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Returns what two runs must share, besides the shapes of their weights, to be the same run.

    Returns:
        A dict of plain data: ``settings``, the values of ``SETTINGS``, and ``parameters``, the
        names of the trained parameters in each group of the optimizer.
    """
    names = {id(p): name.removeprefix("module.") for name, p in model.named_parameters()}
    groups = optimizer.param_groups
    return {
        "settings": {key: value_of(cfg, key) for key in SETTINGS},
        "parameters": [[names[id(p)] for p in group["params"]] for group in groups],
    }


def check_resume(cfg: CfgNode, *, trust_weights: bool = False) -> None:
    """Refuses to resume a run with another model or optimizer.

    Args:
        cfg: the config of the training.
        trust_weights: load a checkpoint that is not plain data, and run the code in it.

    Raises:
        UserError: if the latest checkpoint of ``OUTPUT_DIR`` does not fit.
    """

    def check(path: Path) -> None:
        checkpoint = load_checkpoint_file(path, trusted=trust_weights, own=True)
        if difference := _difference(cfg, str(path), checkpoint):
            raise UserError(
                f"cannot resume from '{path}': {difference}. Continue with the config of the run, "
                "or start from it as MODEL.WEIGHTS in a new OUTPUT_DIR, without --resume"
            )

    load_latest(Path(cfg.OUTPUT_DIR), check)


def _difference(cfg: CfgNode, path: str, checkpoint: dict) -> str:
    """Describes how a checkpoint differs from the training of a config; empty if it does not."""
    if "trainer" not in checkpoint:
        return "it holds only weights, no training state"
    cfg = changed(cfg, {"MODEL.DEVICE": "meta"})  # shapes without memory
    register_mask_head(cfg)  # before start_run does
    with torch.device("meta"):
        model = build_model(cfg)
    if difference := _difference_of_weights(path, checkpoint["model"], model.state_dict()):
        return difference
    train_only(model, cfg.SOLVER.TRAIN_ONLY)
    wanted, found = identity(cfg, model, build_optimizer(cfg, model)), checkpoint["trainer"]
    if "identity" not in found:  # of an older version
        return ""
    settings = found["identity"]["settings"]
    for key, value in wanted["settings"].items():
        if settings.get(key, value) != value:
            return f"its {key} is {settings[key]!r}, not {value!r}"
    if difference := _difference_of_parameters(
        found["identity"]["parameters"], wanted["parameters"]
    ):
        return difference
    if scales_gradients(cfg) and "grad_scaler" not in found.get("_trainer", ()):
        return "it was not trained with SOLVER.AMP.ENABLED True and DTYPE 'float16'"
    return ""


def _difference_of_parameters(in_file: list[list[str]], in_run: list[list[str]]) -> str:
    before, now = ({name for group in groups for name in group} for groups in (in_file, in_run))
    if before != now:
        return (
            f"it trains {len(before)} parameters, this run {len(now)}, and {len(before ^ now)} are "
            "trained in only one of them (SOLVER.TRAIN_ONLY, MODEL.BACKBONE.FREEZE_AT)"
        )
    if in_file != in_run:
        return (
            "its optimizer has other groups of parameters (SOLVER.WEIGHT_DECAY_NORM, "
            "SOLVER.WEIGHT_DECAY_BIAS, SOLVER.BIAS_LR_FACTOR)"
        )
    return ""


def _difference_of_weights(path: str, in_file: dict, in_model: dict) -> str:
    mismatches = [
        Mismatch(name, tuple(in_file[name].shape), tuple(tensor.shape))
        for name, tensor in in_model.items()
        if name in in_file and in_file[name].shape != tensor.shape
    ]
    missing, unexpected = in_model.keys() - in_file.keys(), in_file.keys() - in_model.keys()
    try:
        report = make_report(path, in_model, missing, unexpected, mismatches)
    except UserError as error:
        raise UserError(f"cannot resume: {error}, in a new OUTPUT_DIR") from error
    return report.difference()
