"""Files that an earlier run has left in the output folder of a new one."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..atomic_file import write_file
from ..checkpoint.checkpoint_files import (
    FIT_RECORD,
    FITTED,
    LAST_CHECKPOINT,
    is_resumable,
    resumable_checkpoints,
)
from ..config import RUN_CONFIG
from ..errors import UserError
from ..evaluation.result_files import DETECTIONS, EVALUATION, PER_CLASS
from ..visualization.html_report import PLOTS, REPORT
from .divergence import FILE as DIVERGED
from .evaluators import output_folder
from .keep_best import NAME as BEST
from .training_log import LOG

# Files that a training or its fit would continue. A folder without them is not that of a training.
OF_A_FIT = (f"{FITTED}.pth", f"{FITTED}.yaml")  # a fit alone leaves them, too
STATE = (LAST_CHECKPOINT, LOG, f"{BEST}.pth", *OF_A_FIT)
TENSORBOARD = "events.out.tfevents."
HEADER = 100  # bytes of a file of TensorBoard without an event; it has 88
RESULTS = (FIT_RECORD, EVALUATION, PER_CLASS, REPORT, PLOTS, DETECTIONS, DIVERGED)
FOLDER = "earlier_run_{}"


def set_aside_earlier_run(cfg: CfgNode, *, resume: bool) -> list[str]:
    """Moves the files of an earlier run to a subfolder, unless the training resumes that run.

    Otherwise, the new run would continue the log of the earlier one, and could resume from the
    earlier checkpoints or fit mask scores to the earlier best weights. Called by every process,
    before the run writes anything.

    Args:
        cfg: the config of the training.
        resume: resume from the last checkpoint of ``OUTPUT_DIR``, if there is one.

    Returns:
        Lines for the log; none if nothing is there or the training resumes.

    Raises:
        UserError: if the training starts from one of these files, or they cannot be moved.
    """
    folder, notes = Path(cfg.OUTPUT_DIR), []
    if comm.is_main_process() and not (resume and resumable_checkpoints(folder)):
        notes = _move(folder, cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST)
        if resume:
            notes.append(f"--resume: no checkpoint in {folder}, training starts at iteration 0.")
            notes += [
                f"{each} has checkpoints: move its files back to {folder} to resume that run."
                for each in folder.glob(FOLDER.format("*"))
                if resumable_checkpoints(each)
            ]
    comm.synchronize()
    return notes


def refuse_training_folder(folder: Path) -> None:
    """Rejects the folder of a training as the output folder of a fit or an evaluation.

    Raises:
        UserError: naming a file of the training.
    """
    if training := _file_of_training(folder):
        raise UserError(
            f"--output-dir '{folder}' is the folder of a training ({training.name}), whose config "
            "and results would be replaced: choose another one"
        )


@contextlib.contextmanager
def kept_config(folder: Path) -> Iterator[None]:
    """Keeps the config of a training in a folder, where Detectron2's setup would replace it.

    An evaluation may have other settings, with which the trained model should not be used later.
    """
    path = folder / RUN_CONFIG
    trained = path.read_bytes() if path.is_file() and _file_of_training(folder) else None
    try:
        yield
    finally:
        if trained is not None and comm.is_main_process():
            write_file(path, trained)


def _file_of_training(folder: Path) -> Path | None:
    """Returns a file of a training, but not of a fit alone, in a folder."""
    found = (path for path in folder.glob("*") if _is_state(path) and path.name not in OF_A_FIT)
    return min(found, default=None)


def _move(folder: Path, weights: str, datasets: Sequence[str]) -> list[str]:
    found = [path for path in folder.glob("*") if _is_state(path)]
    if not found:
        return []
    if Path(weights).resolve() in [path.resolve() for path in found]:
        raise UserError(
            f"MODEL.WEIGHTS '{weights}' is of an earlier run in OUTPUT_DIR: choose another "
            "OUTPUT_DIR, or continue that run with --resume"
        )
    if all(_is_left_by_a_failed_start(path) for path in found):
        for path in found:
            path.unlink()
        return []
    names = {*RESULTS, *(output_folder(each, datasets) for each in datasets)} - {""}
    found += [folder / name for name in sorted(names) if (folder / name).exists()]
    number = 1
    while (aside := folder / FOLDER.format(number)).exists():
        number += 1
    try:
        aside.mkdir()
        if (folder / RUN_CONFIG).is_file():  # the new run may have been started from it
            shutil.copy2(folder / RUN_CONFIG, aside)
        for path in found:
            path.rename(aside / path.name)
    except OSError as error:
        raise UserError(
            f"cannot move the files of an earlier run to '{aside}': {error.strerror}; choose "
            "another OUTPUT_DIR"
        ) from error
    return [f"The files of an earlier run are in {aside} now."]


def _is_left_by_a_failed_start(path: Path) -> bool:
    """Whether a run has opened this log, but logged no step."""
    size = path.stat().st_size
    return size == 0 if path.name == LOG else path.name.startswith(TENSORBOARD) and size <= HEADER


def _is_state(path: Path) -> bool:
    return is_resumable(path) or path.name in STATE or path.name.startswith(TENSORBOARD)
