"""Finds the checkpoints of a training run in its output folder."""

import logging
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..errors import UserError
from .safe_load import DamagedFileError

logger = logging.getLogger(__name__)

T = TypeVar("T")
FINAL_WEIGHTS = "model_final.pth"  # of a training that has ended
FITTED = "model_fitted"  # .pth of a fit, with .yaml beside it
FIT_RECORD = "fit.json"  # written last, when the fit is done
LAST_CHECKPOINT = "last_checkpoint"  # a text file with the name of the latest checkpoint
PERIODIC = re.compile(r"model_\d{7,}\.pth")
RESUMABLE = re.compile(r"model_(\d{7,}|final)\.pth")


def _age(path: Path) -> tuple[int, str]:
    """Sort key by time. The iteration will not do: an earlier, longer run may have left files."""
    return path.stat().st_mtime_ns, path.name


def periodic_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints that were saved every few iterations, oldest first."""
    return sorted((p for p in folder.glob("model_*.pth") if PERIODIC.fullmatch(p.name)), key=_age)


def is_resumable(path: Path) -> bool:
    """Returns whether training resumes from files of this name, unlike ``model_best.pth``."""
    return RESUMABLE.fullmatch(path.name) is not None


def resumable_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints to resume from in the order to try them, latest first."""
    found = [path for path in folder.glob("model_*.pth") if is_resumable(path)]
    try:
        # Drop any folder from the name: files outside of this folder belong to another run.
        last = folder / Path((folder / LAST_CHECKPOINT).read_text().strip()).name
        if last not in found and last.is_file():
            found.append(last)  # another tool's naming scheme
    except (OSError, ValueError):  # missing, or not text
        last = None
    return sorted(found, key=lambda path: (path == last, *_age(path)), reverse=True)


def is_intact(path: Path) -> bool:
    """Returns whether the content of a checkpoint matches the checksums stored in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged file can raise nearly anything
        return False


def load_latest(folder: Path, load: Callable[[Path], T]) -> T | None:
    """Loads the latest intact checkpoint to resume from.

    Args:
        folder: the output folder of the run.
        load: loads a checkpoint; called with its path.

    Returns:
        What ``load`` returns, or ``None`` if there is no checkpoint.

    Raises:
        UserError: if there are checkpoints but all of them are damaged.
    """
    found = resumable_checkpoints(folder)
    for checkpoint in found:
        try:
            if is_intact(checkpoint):
                return load(checkpoint)
        except DamagedFileError:  # in the zip directory, which has no checksum
            pass
        logger.warning("Checkpoint '%s' is damaged; trying the one before it.", checkpoint)
    if found:
        raise UserError(
            f"all checkpoints in '{folder}' are damaged; without --resume, training starts again "
            "from MODEL.WEIGHTS"
        )
    return None
