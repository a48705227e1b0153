"""The checkpoints of a run, as files."""

import re
import zipfile
import zlib
from pathlib import Path

LAST_CHECKPOINT = "last_checkpoint"  # names the file saved last
PERIODIC = re.compile(r"model_\d{7}\.pth")
RESUMABLE = re.compile(r"model_(\d{7}|final)\.pth")


def periodic_checkpoints(folder: Path) -> list[Path]:
    """Those saved every so many steps, the earliest first."""
    return sorted(path for path in folder.glob("model_*.pth") if PERIODIC.fullmatch(path.name))


def is_resumable(path: Path) -> bool:
    """Whether training goes on from a checkpoint of that name; not from the best one."""
    return RESUMABLE.fullmatch(path.name) is not None


def resumable_checkpoints(folder: Path) -> list[Path]:
    """All that training can go on from, in the order to try them: the last one saved first."""
    found = [path for path in folder.glob("model_*.pth") if is_resumable(path)]
    try:
        last = folder / (folder / LAST_CHECKPOINT).read_text().strip()
    except OSError:
        last = None
    if last is not None and last not in found and last.is_file():
        found.append(last)  # named otherwise, by another tool
    return sorted(found, key=lambda path: (path == last, path.stat().st_mtime_ns), reverse=True)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False
