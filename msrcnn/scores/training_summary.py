"""The summary of a training: its metrics, its files, and the commands that use them."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from detectron2.config import CfgNode

from ..checkpoint import load_checkpoint_file
from ..checkpoint.checkpoint_files import FITTED
from ..engine.evaluators import output_folder
from ..engine.keep_best import NAME as BEST
from ..evaluation.rankings import AP_LABELS
from ..evaluation.result_files import EVALUATION
from ..json_file import read_json_object
from .train_and_fit import detector_weights

SHOWN = ("bbox", "segm_box_score", "segm_mask_score")


def training_summary(cfg: CfgNode, program: Sequence[str] = ("msrcnn",)) -> str:
    """Returns a summary of a finished training as text.

    Args:
        cfg: the config of the training.
        program: the words that start a command, for the commands of the summary.
    """
    folder = Path(cfg.OUTPUT_DIR)
    best = folder / f"{BEST}.pth"
    weights = folder / f"{FITTED}.pth" if cfg.SOLVER.FIT_SCORES else detector_weights(folder, cfg)
    lines = [f"Finished: the model is {weights}"]
    if cfg.SOLVER.KEEP_BEST and best.is_file():
        found = load_checkpoint_file(best, own=True)["best"]
        lines.append(
            f"  best {found['metric']}: {found['value']:.2f}, after {found['steps']} iterations "
            f"({best})"
        )
    for name in cfg.DATASETS.TEST:
        lines += _evaluation(folder / output_folder(name, cfg.DATASETS.TEST), cfg)
    command = partial(_command, program, weights)
    lines += ["Next:", f"  {command('predict', 'IMAGES', '--output', folder / 'drawn')}"]
    if cfg.DATASETS.TEST:
        lines.append(f"  {command('eval', '--output-dir', folder / 'eval')}")
    lines.append(f"  {command('export', '--output', folder / 'model.pth')}")
    return "\n".join(lines)


def _evaluation(folder: Path, cfg: CfgNode) -> list[str]:
    path = folder / EVALUATION
    if not path.is_file():
        return []
    summary = read_json_object(path, "evaluate again")
    aps = [
        f"{AP_LABELS[key]} {summary[key]['AP']:.2f}"
        for key in SHOWN
        if summary.get(key) and summary[key]["AP"] is not None
    ]
    what = "" if cfg.SOLVER.FIT_SCORES else " of the last iteration"
    found = ", ".join(aps) or "AP is not defined"
    return [f"  {found}: {summary['images']} images{what}, {folder / 'report.html'}"]


def _command(program: Sequence[str], weights: Path, name: str, *arguments: object) -> str:
    return shlex.join([*program, name, "--weights", str(weights), *map(str, arguments)])
