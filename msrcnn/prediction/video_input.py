"""Reads videos frame by frame, with PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..errors import UserError

# Before Pillow's: it claims .mpg, without reading it.
VIDEOS = {
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".ogv", ".ts", ".webm", ".wmv"),
}
MAX_GAP = 0.5  # seconds between the last packet and the end, above which a video is cut off
MIN_FRAMES = 0.9  # of those that the header promises; some promise a few too many
RATE = Fraction(25)  # of a video that says none


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: index of the frame, from 0.
        pixels: uint8 array of shape (H, W, 3), RGB, or uint16 array of shape (H, W) of a video of
            grey of 16 bits, turned upright.
        pts: when it is shown, in units of the video's ``time_base``; 0 for the first frame.
        time: the same in seconds.
    """

    number: int
    pixels: np.ndarray
    pts: int
    time: float


class Video:
    """An open video; one frame is in memory at a time.

    Attributes:
        frames: number of frames that the file promises, or 0 if it does not.
        rate: average number of frames per second.
        time_base: seconds per unit of time.
    """

    def __init__(self, path: Path):
        """
        Raises:
            UserError: if PyAV is not installed, or the file is no video that it can read.
        """
        self._av = pyav()
        try:
            self._container = self._av.open(str(path))
        except (self._av.error.FFmpegError, OSError) as error:
            raise UserError(f"cannot read video '{path}': {_text(error)}") from error
        if not self._container.streams.video:
            self.close()
            raise UserError(f"cannot read video '{path}': there are no pictures in it")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.frames = self._stream.frames
        self.rate = self._stream.average_rate or RATE
        self.time_base = self._stream.time_base

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in the order in which they are shown.

        Raises:
            UserError: after the last frame that can be decoded, if there should be more, or if a
                frame is damaged.
        """
        first, last, damaged, index = None, -1, 0, -1
        for index, frame in enumerate(self._decoded()):
            damaged += frame.is_corrupt
            pts = frame.pts
            if pts is None:
                pts = last + round(1 / self.rate / self.time_base) if index else 0
            first = pts if first is None else first
            last = max(pts - first, last + 1)  # a video's times increase
            # Its values are for INPUT.VALUE_RANGE; as RGB, they would lose their lower 8 bits.
            deep = frame.format.name.startswith("gray16")
            pixels = frame.to_ndarray(format="gray16le" if deep else "rgb24")
            pixels = np.rot90(pixels, round(frame.rotation / 90))
            yield Frame(index, np.ascontiguousarray(pixels), last, float(last * self.time_base))
        if index < 0:
            raise UserError("no frame can be decoded")
        if damaged:
            raise UserError(f"{damaged} of {index + 1} frames are damaged")

    def _decoded(self) -> Iterator:
        """Yields PyAV's frames, and finds out whether the file is complete."""
        count, end = 0, 0.0
        try:
            for packet in self._container.demux():
                if packet.pts is not None and packet.time_base:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self._stream or packet.stream.index == self._stream.index:
                    for frame in packet.decode():
                        count += 1
                        yield frame
        except self._av.error.FFmpegError as error:
            raise UserError(f"breaks off after {self._progress(count)}: {_text(error)}") from error
        start = (self._container.start_time or 0) / self._av.time_base
        length = (self._container.duration or 0) / self._av.time_base
        if length - (end - start) > MAX_GAP:
            raise UserError(
                f"breaks off after {self._progress(count)}: it ends at {end - start:.1f} of "
                f"{length:.1f} s"
            )
        if count < MIN_FRAMES * self.frames:
            raise UserError(f"breaks off after {self._progress(count)}")

    def _progress(self, count: int) -> str:
        return f"{count} of {self.frames} frames" if self.frames else f"{count} frames"


def pyav() -> ModuleType:
    """Returns the module of PyAV.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("videos need the package PyAV: pip install av") from error
    return av


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
