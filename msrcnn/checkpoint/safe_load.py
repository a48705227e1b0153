"""Checkpoint files of every kind, read as data: nothing that a file holds is run.

PyTorch's files are left to its ``weights_only``, pickles to :mod:`.restricted_pickle`, safetensors
to their package; this module tells them apart and gives what they hold one form.
"""

import logging
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError, printable
from .restricted_pickle import PickledArray, RefusedError, load_pickle

logger = logging.getLogger(__name__)
T = TypeVar("T")

ZIP_MAGIC = b"PK\x03\x04"
TORCH_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # a number near the start of files before PyTorch 1.6
MAX_SAFETENSORS_HEADER = 100 << 20  # bytes; the format's own limit
ZOO_KEYS = ("model", "__author__", "matching_heuristics")
# Earlier weights_only can be made to corrupt memory (CVE-2026-24747).
SOUND_WEIGHTS_ONLY = (2, 10)


class DamagedFileError(UserError):
    """A file that cannot be read, or is of another kind."""


def load_checkpoint_file(path: str | Path, *, trusted: bool = False) -> dict:
    """Read a checkpoint; what kind of file it is, is told by its content.

    Read are PyTorch's files, pickles of NumPy arrays as of Detectron2's and Caffe2's model zoos,
    and safetensors.

    Args:
        path: a file on this machine.
        trusted: also load what is not plain data, by Python's own unpickler, which runs any code
            that the file holds.

    Returns:
        ``model``, tensors by name, and whatever else a training checkpoint holds. Where names
        are to be matched with the model's by Detectron2's heuristics, ``matching_heuristics``
        is True, and ``__author__`` says whose names they are.

    Raises:
        UserError: if the file holds more than data, is damaged, or is no checkpoint; the
            message names the file, what is wrong, and the mend.
    """
    return read_safely(path, _named_weights, trusted=trusted)


def read_safely(path: str | Path, parse: Callable[[Any], T], *, trusted: bool = False) -> T:
    """What a file holds, of whatever library, as data.

    Args:
        path: a file on this machine.
        parse: makes of the content what is wanted; raises if it is something else.
        trusted: see :func:`load_checkpoint_file`.

    Raises:
        UserError: see :func:`load_checkpoint_file`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint '{path}': no such file")
    if trusted:
        logger.warning("Trusting %s: any code that it holds is run.", path)
    try:
        return parse(_read(path, trusted))
    except UserError:
        raise
    except RefusedError as error:
        raise UserError(
            f"'{path}' is refused, it holds more than weights: {_one_line(error)}. Such a file can "
            "run code as it is loaded. If you trust where it comes from, --trust-weights (in "
            "Python: trusted=True) loads it; else have its weights saved as .safetensors"
        ) from error
    except Exception as error:  # whatever a file of another kind makes of a reader
        raise DamagedFileError(
            f"'{path}' is not a checkpoint, or is damaged: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return printable(str(error).strip().split("\n")[0]) or type(error).__name__


def _read(path: Path, trusted: bool) -> Any:
    with path.open("rb") as file:
        head = file.read(32)
        if _is_safetensors(head, path.stat().st_size):
            return {"model": load_file(path)}
        is_zip = head.startswith(ZIP_MAGIC)
        if is_zip or TORCH_MAGIC in head or tarfile.is_tarfile(path):
            if trusted:
                return torch.load(path, map_location="cpu", weights_only=False)
            _check_archive(path, is_zip)
            return _torch_load(path)
        file.seek(0)
        return pickle.load(file, encoding="latin1") if trusted else _weights_in_pickle(file)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins as the format says: the header's length in 8 bytes, then JSON."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= min(size - 8, MAX_SAFETENSORS_HEADER)


def _check_archive(path: Path, is_zip: bool) -> None:
    """Refuse archives that ``weights_only`` is not for, and those that would swell.

    Raises:
        RefusedError: for TorchScript and tar, which PyTorch before 2.6 read without restriction
            (CVE-2025-32434).
        ValueError: for a zip whose content is larger than itself; PyTorch does not compress.
    """
    if not is_zip:
        if tarfile.is_tarfile(path):
            raise RefusedError("a tar archive, a format that PyTorch left long ago")
        return
    # By PyTorch's own reader: what it sees is what it would run.
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise RefusedError("a TorchScript program")
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it would unpack to {size} bytes, more than it has")


def _torch_load(path: Path) -> Any:
    """A file of PyTorch's, read by ``weights_only``."""
    if torch.__version__ < SOUND_WEIGHTS_ONLY:
        logger.warning(
            "PyTorch %s does not read untrusted .pth files safely; PyTorch %d.%d does.",
            *(torch.__version__, *SOUND_WEIGHTS_ONLY),
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of protocols before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Its message is a page of advice on weights_only=False around what it found.
        message = str(error)
        if name := re.search(r"GLOBAL (\S+)", message):
            raise RefusedError(f"the name '{name[1]}'") from error
        found = re.search(r"WeightsUnpickler error:\s*(.+)", message)
        raise RefusedError(found[1] if found else "what weights_only does not admit") from error


def _weights_in_pickle(file: IO[bytes]) -> Any:
    """A pickle as of a model zoo; of what it holds, the weights and how to name them."""
    content = load_pickle(file)
    if isinstance(content, dict) and "model" in content:
        return {key: content[key] for key in ZOO_KEYS if key in content}
    return content


def _named_weights(content: Any) -> dict:
    """Bring what a file holds into one form.

    Raises:
        TypeError, ValueError: if there are no weights in it.
    """
    if not isinstance(content, dict):
        raise TypeError(f"it holds a {type(content).__name__}, not weights by name")
    if "model" in content:
        checkpoint = content
    elif "model_state" in content:  # pycls
        weights = content["model_state"]
        checkpoint = {"model": weights, "__author__": "pycls", "matching_heuristics": True}
    elif _is_caffe2(content):
        weights = content.get("blobs", content)
        weights = {name: w for name, w in weights.items() if not name.endswith("_momentum")}
        checkpoint = {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}
    else:
        checkpoint = {"model": content}
    weights = checkpoint["model"]
    if not isinstance(weights, dict) or not weights or not all(isinstance(n, str) for n in weights):
        raise ValueError("it holds no weights by name")
    for name in weights:  # in place: a state dict carries the versions of its layers
        weights[name] = _tensor(name, weights[name])
    return checkpoint


def _is_caffe2(content: dict) -> bool:
    """Detection models have "blobs"; those of ImageNet are told by names without a dot."""
    if "blobs" in content:
        return isinstance(content["blobs"], dict)
    arrays = all(isinstance(value, np.ndarray | PickledArray) for value in content.values())
    return arrays and not any("." in str(name) for name in content)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, PickledArray):
        value = value.array()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise TypeError(f"'{name}' in it is a {type(value).__name__}, not a tensor")
    return value
