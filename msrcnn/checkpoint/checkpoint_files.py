"""The checkpoints of a run, as files."""

import re
import zipfile
from pathlib import Path

LAST_CHECKPOINT = "last_checkpoint"  # names the file saved last
PERIODIC = re.compile(r"model_\d{7,}\.pth")
RESUMABLE = re.compile(r"model_(\d{7,}|final)\.pth")


def _age(path: Path) -> tuple[int, str]:
    """Sorts by time, not by iteration: the folder may hold those of an earlier, longer run."""
    return path.stat().st_mtime_ns, path.name


def periodic_checkpoints(folder: Path) -> list[Path]:
    """Those saved every so many steps, the earliest first."""
    return sorted((p for p in folder.glob("model_*.pth") if PERIODIC.fullmatch(p.name)), key=_age)


def is_resumable(path: Path) -> bool:
    """Whether training goes on from a checkpoint of that name; not from the best one."""
    return RESUMABLE.fullmatch(path.name) is not None


def resumable_checkpoints(folder: Path) -> list[Path]:
    """All that training can go on from, in the order to try them: the last one saved first."""
    found = [path for path in folder.glob("model_*.pth") if is_resumable(path)]
    try:
        # The name alone: what is outside of the folder is not of this run.
        last = folder / Path((folder / LAST_CHECKPOINT).read_text().strip()).name
        if last not in found and last.is_file():
            found.append(last)  # named otherwise, by another tool
    except (OSError, ValueError):  # not there, or not text
        last = None
    return sorted(found, key=lambda path: (path == last, *_age(path)), reverse=True)


def is_whole(path: Path) -> bool:
    """Whether what is in a checkpoint is as it was written, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # whatever a damaged file makes of its reader
        return False
