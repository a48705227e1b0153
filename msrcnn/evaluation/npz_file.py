"""Writes .npz files, and reads untrusted ones: no pickled objects, no memory beyond a limit."""

import io
import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from ..atomic_file import write_file
from ..errors import UserError

MAX_RATIO = 50  # of the arrays to the file; those of predictions are 2 to 5 times as large
SMALL = 64 << 20  # bytes of arrays that any file may have
MAX_BYTES = 16 << 30  # predictions on all of LVIS, 300 for each image, have about 1.5 GB
COMPRESSION = 1  # NumPy's, 6, takes three times as long for files that are a seventh smaller
SUFFIX = ".npy"
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes numeric arrays, as ``numpy.savez_compressed`` does with less compression.

    Args:
        path: the file to write; its folder is created if missing.
        arrays: the arrays by name.

    Raises:
        UserError: if the file cannot be written.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
        for name, array in arrays.items():
            with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    write_file(path, content.getbuffer())


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads all numeric arrays of a file that ``numpy.savez`` or ``savez_compressed`` wrote.

    Args:
        path: a local file.

    Returns:
        The arrays by name.

    Raises:
        OSError: if the file cannot be read.
        UserError: if the file is damaged, has anything but numeric arrays, or would unpack to more
            than ``MAX_BYTES``, or than the larger of ``SMALL`` and ``MAX_RATIO`` times its size.
    """
    limit = min(MAX_BYTES, max(SMALL, MAX_RATIO * path.stat().st_size))
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            # A member yields no more than the size that the archive states, which is checked first.
            size = sum(member.file_size for member in archive.infolist())
            if size > limit:
                raise UserError(
                    f"refused: it would unpack to {size / 2**20:,.0f} MB; the limit for a file of "
                    f"its size is {limit / 2**20:,.0f} MB"
                )
            arrays = {}
            for name, member in members.items():
                with archive.open(member) as file:
                    arrays[name.removesuffix(SUFFIX)] = _read_array(file)
            return arrays
    except (UserError, OSError):
        raise
    except Exception as error:  # zipfile and numpy raise anything on a damaged file
        raise UserError(f"damaged, or not of numeric arrays: {error}") from error


def _read_array(file: IO[bytes]) -> np.ndarray:
    shape, fortran, dtype = HEADERS[np.lib.format.read_magic(file)](file)
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of type {dtype}")
    content = file.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(content)} bytes for an array of shape {shape}, {dtype}")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))
