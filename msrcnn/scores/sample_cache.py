"""Samples of the MaskIoU head on disk: what it is given for each detection, and its target.

Each part of the cache holds the detections of some images. The large arrays are memory-mapped.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
import torch

from ..atomic_file import PART, write_file
from ..errors import UserError
from ..escaping import one_line
from ..evaluation import Detections, load_predictions, save_predictions
from ..json_file import read_json_object
from .cache_budget import Selection

logger = logging.getLogger(__name__)
T = TypeVar("T")

KEY_FILE = "key.json"
LIMIT_FILE = "limit.json"
COMPLETE_FILE = "complete"
SELECTION_FILE = "selection.json"  # of a part
CACHE_GB = 8.0  # limit of the size on disk by default, and of caches without LIMIT_FILE


@dataclass(frozen=True, eq=False)
class Samples:
    """N detections with everything that the MaskIoU head needs; arrays with N rows.

    Attributes:
        features: the head's features, float16, (N, channels, H, W).
        mask_logits: float16, (N, C, M, M); C is 1, the mask of the predicted class, unless the head
            takes the masks of all classes.
        scalars: :data:`msrcnn.modeling.maskiou_head.ALL_SCALARS`, float32, (N, 9).
        classes: predicted classes, int64, (N,).
        target: true MaskIoU with the matched instance, NaN without one, float32, (N,).
        area: area of the matched instance in pixels of the (resized) network input, as in training,
            NaN without one, float32, (N,).
        view: view of the image, see :class:`~.view_mapper.ViewMapper`, int64, (N,).
        usable: whether the detection may be a sample: one on a crowd may not, bool, (N,).
        duplicate: see :func:`msrcnn.evaluation.mask_quality.duplicates`, bool, (N,).
    """

    features: np.ndarray
    mask_logits: np.ndarray
    scalars: np.ndarray
    classes: np.ndarray
    target: np.ndarray
    area: np.ndarray
    view: np.ndarray
    usable: np.ndarray
    duplicate: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)


LARGE = ("features", "mask_logits")
SMALL = tuple(field.name for field in fields(Samples) if field.name not in LARGE)
SMALL_FILE = "small.npz"  # of a part
DETECTIONS_FILE = "predictions.npz"  # of a part
PART_FILES = (*(f"{name}.npy" for name in LARGE), SMALL_FILE, SELECTION_FILE, DETECTIONS_FILE)


class SampleCache:
    """A folder with the samples of a dataset, in parts that are either complete or missing."""

    def __init__(self, folder: Path, key: dict):
        """
        Args:
            folder: created if missing.
            key: what the samples depend on, JSON-serializable.

        Raises:
            UserError: if the samples in the folder were made with another key, or the folder has
                files but no cache.
        """
        self.folder = folder
        path = folder / KEY_FILE
        if check_cache_folder(folder):
            known = read_json_object(path, "delete its folder")
            if known != key:
                differing = [name for name in key if known.get(name) != key[name]]
                raise UserError(
                    f"the cache in '{folder}' was made with other {', '.join(differing)}: delete "
                    "the folder, or choose another --output-dir"
                )
        else:
            write_file(path, json.dumps(key))

    def limit(self, gigabytes: float) -> None:
        """Records the limit of the size on disk, because of which parts leave detections out.

        Raises:
            UserError: if parts were made with another limit.
        """
        path, known = self.folder / LIMIT_FILE, None
        if path.is_file():
            known = _read_number(path)
        elif self._parts():
            known = CACHE_GB
        if known is None:
            write_file(path, json.dumps(gigabytes))
        elif known != gigabytes:
            raise UserError(
                f"the cache in '{self.folder}' was made with --cache-gb {known:g}, not "
                f"{gigabytes:g}: delete the folder, or choose another --output-dir"
            )

    def has_part(self, number: int) -> bool:
        """Whether a part is complete."""
        return all(self._path(number, name).is_file() for name in PART_FILES)

    def write_part(
        self, number: int, samples: Samples, detections: Detections, selection: Selection
    ) -> None:
        """Writes a part.

        Args:
            number: number of the part, from 0.
            samples: the samples of the part.
            detections: the same detections in the same order.
            selection: what was kept of all detections.
        """
        for name in LARGE:
            content = io.BytesIO()
            np.save(content, getattr(samples, name))
            write_file(self._path(number, f"{name}.npy"), content.getvalue())
        content = io.BytesIO()
        np.savez(content, **{name: getattr(samples, name) for name in SMALL})
        write_file(self._path(number, SMALL_FILE), content.getvalue())
        write_file(self._path(number, SELECTION_FILE), json.dumps(selection._asdict()))
        # Last: a part has it only if it has the others.
        save_predictions(detections, self._path(number, DETECTIONS_FILE))

    def mark_complete(self, parts: int) -> None:
        """Records that all samples are there, see :func:`is_complete`.

        Args:
            parts: number of parts.

        Raises:
            UserError: if a part is missing.
        """
        missing = sum(not self.has_part(number) for number in range(parts))
        if missing:
            raise UserError(
                f"{missing} of {parts} parts of the samples are missing in '{self.folder}', which "
                "must be the same folder for all processes: run the same command again"
            )
        write_file(self.folder / COMPLETE_FILE, "")

    def remove(self) -> None:
        """Deletes the files of the cache, and its folder unless there are other files in it."""
        for path in self.folder.iterdir():
            if path.is_file() and _is_own(path.name):
                path.unlink()
        try:
            self.folder.rmdir()
        except OSError:
            logger.info("'%s' is kept: it has files that are not of the cache.", self.folder)

    @cached_property
    def left_out(self) -> int:
        """Number of detections that were left out for lack of room."""
        return sum(each.left_out for each in self._selections)

    @cached_property
    def whole_images(self) -> list[int] | None:
        """Ids of the images whose detections are all kept; ``None`` if those of all images are."""
        if not self.left_out:
            return None
        return [image_id for each in self._selections for image_id in each.whole]

    @property
    def _selections(self) -> list[Selection]:
        return self._read(SELECTION_FILE, _selection)

    @cached_property
    def detections(self) -> Detections:
        """All detections, in the order of the samples."""
        return Detections.stack(self._read(DETECTIONS_FILE, load_predictions))

    @cached_property
    def small(self) -> dict[str, np.ndarray]:
        """The small arrays of all samples."""
        parts = self._read(SMALL_FILE, _small_arrays)
        return {name: np.concatenate([part[name] for part in parts]) for name in SMALL}

    @cached_property
    def _large(self) -> dict[str, list[np.ndarray]]:
        return {name: self._read(f"{name}.npy", _memory_mapped) for name in LARGE}

    @cached_property
    def _starts(self) -> np.ndarray:
        """Index of the first sample of each part, and of the end."""
        return np.cumsum([0, *(len(part) for part in self._large["features"])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batch(self, rows: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
        """Reads samples.

        Args:
            rows: indices of K samples.
            device: where the tensors go.

        Returns:
            The attributes of :class:`Samples` as tensors with K rows; the large ones as float32.
        """
        found = {name: torch.from_numpy(self.small[name][rows]) for name in SMALL}
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for name in LARGE:
            parts = self._large[name]
            values = np.stack([parts[p][r - self._starts[p]] for p, r in zip(part, rows)])
            found[name] = torch.from_numpy(values)
        return {
            name: value.to(device, torch.float32 if name in LARGE else None)
            for name, value in found.items()
        }

    def batches(
        self, rows: np.ndarray, size: int, device: torch.device
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Reads samples in batches of at most ``size``, in order."""
        for start in range(0, len(rows), size):
            yield self.batch(rows[start : start + size], device)

    def _path(self, number: int, name: str) -> Path:
        return self.folder / f"{number:05d}-{name}"

    def _parts(self) -> list[int]:
        paths = self.folder.glob(f"*-{DETECTIONS_FILE}")
        return sorted(int(path.name.partition("-")[0]) for path in paths)

    def _read(self, name: str, read: Callable[[Path], T]) -> list[T]:
        """Reads a file of each part.

        Raises:
            UserError: if one is missing or damaged.
        """
        found = []
        for number in self._parts():
            path = self._path(number, name)
            try:
                found.append(read(path))
            except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile) as error:
                raise UserError(
                    f"'{path}' is damaged ({one_line(str(error))}): delete its folder"
                ) from error
        return found


def check_cache_folder(folder: Path) -> bool:
    """Returns whether a folder has a cache.

    Raises:
        UserError: if it has other files instead, which would mix with those of a cache.
    """
    found = os.listdir(folder) if folder.is_dir() else []
    # Another process of this run may be writing the key.
    if KEY_FILE not in found and any(not PART.fullmatch(name) for name in found):
        raise UserError(
            f"'{folder}' has files, but no cache of samples ({KEY_FILE}): move them, or choose "
            "another output folder"
        )
    return KEY_FILE in found


def _is_own(name: str) -> bool:
    """Whether a file is of a cache, by its name."""
    number, _, of_part = name.partition("-")
    return (
        name in (KEY_FILE, LIMIT_FILE, COMPLETE_FILE)
        or (number.isdecimal() and of_part in PART_FILES)
        or PART.fullmatch(name) is not None
    )


def is_complete(folder: Path) -> bool:
    """Returns whether the cache in a folder has all samples."""
    return (folder / COMPLETE_FILE).is_file()


def _read_number(path: Path) -> float:
    try:
        return float(path.read_text())
    except ValueError as error:
        raise UserError(f"'{path}' is damaged ({error}): delete its folder") from error


def _selection(path: Path) -> Selection:
    content = json.loads(path.read_text())
    return Selection(int(content["left_out"]), [int(each) for each in content["whole"]])


def _small_arrays(path: Path) -> dict[str, np.ndarray]:
    # If NumPy opens a damaged file itself, it leaves it open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in SMALL}


def _memory_mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)
