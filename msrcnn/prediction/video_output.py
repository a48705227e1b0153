"""Writes videos frame by frame, with PyAV."""

from fractions import Fraction
from typing import IO

import numpy as np
from PIL import Image

from .video_input import pyav


class VideoOutput:
    """An H.264 video without sound in an MP4 file, which browsers and players show.

    H.264 needs even sides: odd ones get one more row or column, which repeats the last one.
    """

    def __init__(self, file: IO[bytes], rate: Fraction, time_base: Fraction):
        """
        Args:
            file: the file to write, open in binary mode.
            rate: average number of frames per second.
            time_base: seconds per unit of time.
        """
        self._av = pyav()
        self._container = self._av.open(file, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._time_base = time_base
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> "VideoOutput":
        return self

    def __exit__(self, *error: object) -> None:
        """Completes the video, also after an error, so that it can be played."""
        if self._size is not None:
            self._container.mux(self._stream.encode())
        self._container.close()

    def add(self, picture: Image.Image, pts: int) -> None:
        """Adds a frame.

        Args:
            picture: the frame; all have the size of the first, to which others are resized.
            pts: when it is shown, in units of the time base; larger than that of the frame before.
        """
        if self._size is None:
            self._size = picture.size
            self._stream.width, self._stream.height = (side + side % 2 for side in picture.size)
        elif picture.size != self._size:
            picture = picture.resize(self._size)
        pixels = np.asarray(picture.convert("RGB"))
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = pts, self._time_base
        self._container.mux(self._stream.encode(frame))
