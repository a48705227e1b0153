"""Masks of many detections as compressed RLE, stored as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np


@dataclass(frozen=True, eq=False)
class RLEMasks(Sequence):
    """N masks, a sequence of dicts in the format of ``pycocotools.mask.encode``.

    The dicts are created on access. Stored, they would need twice the memory of the strings, in
    small pieces that are returned to the system late.

    Attributes:
        counts: the RLE strings of all masks, one after the other.
        length: int array of shape (N,), the length of each string.
        size: int array of shape (N, 2), height and width of each mask.
    """

    counts: bytes
    length: np.ndarray
    size: np.ndarray

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.length, dtype=np.int64)])

    @classmethod
    def from_dicts(cls, masks: Iterable[dict]) -> RLEMasks:
        """Stores masks in the format of ``pycocotools.mask.encode``."""
        masks = list(masks)
        return cls(
            b"".join(mask["counts"] for mask in masks),
            np.array([len(mask["counts"]) for mask in masks], dtype=np.int32),
            np.array([mask["size"] for mask in masks], dtype=np.int64).reshape(-1, 2),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[RLEMasks]) -> RLEMasks:
        """Joins masks, in the order of the parts."""
        return cls(
            b"".join(part.counts for part in parts),
            np.concatenate([part.length for part in parts]),
            np.concatenate([part.size for part in parts]),
        )

    def take(self, indices: np.ndarray) -> RLEMasks:
        """Selects masks by index."""
        starts, ends = self._ends[indices].tolist(), self._ends[1:][indices].tolist()
        return RLEMasks(
            b"".join(self.counts[start:end] for start, end in zip(starts, ends)),
            self.length[indices],
            self.size[indices],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RLEMasks | list):
            return NotImplemented
        return self[:] == other[:]

    def __len__(self) -> int:
        return len(self.length)

    @overload
    def __getitem__(self, index: int) -> dict: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...

    def __getitem__(self, index: int | slice) -> dict | list[dict]:
        if isinstance(index, slice):
            return self.dicts(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"mask {index} of {len(self)}")
        return self.dicts(np.array([index % len(self)]))[0]

    def dicts(self, indices: np.ndarray) -> list[dict]:
        """Returns masks by index, in the format of ``pycocotools.mask.encode``."""
        starts, ends = self._ends[indices].tolist(), self._ends[1:][indices].tolist()
        return [
            {"size": size, "counts": self.counts[start:end]}
            for size, start, end in zip(self.size[indices].tolist(), starts, ends)
        ]
