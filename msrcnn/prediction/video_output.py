"""Writes videos frame by frame, with PyAV."""

from fractions import Fraction
from typing import IO

import numpy as np
from PIL import Image

from ..errors import UserError
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

        Raises:
            UserError: if H.264 has no frames of that size.
        """
        if self._size is None:
            self._start(*picture.size)
        elif picture.size != self._size:
            picture = picture.resize(self._size)
        pixels = np.asarray(picture.convert("RGB"))
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = pts, self._time_base
        self._container.mux(self._stream.encode(frame))

    def _start(self, width: int, height: int) -> None:
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        try:
            self._stream.codec_context.open()
        except self._av.error.FFmpegError as error:
            raise UserError(
                f"H.264 cannot encode frames of {width} x {height} pixels: scale the video down"
            ) from error
        self._size = width, height
