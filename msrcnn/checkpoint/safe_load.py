"""Loads checkpoint files of all supported formats as data, without running code in them.

This module detects the format, passes the file to the right reader and converts the result to a
common form. PyTorch files are read with ``torch.load(weights_only=True)``, pickles with
:mod:`.restricted_pickle`, and safetensors files with the ``safetensors`` package.
"""

import json
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
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import UserError
from ..escaping import printable
from .restricted_pickle import PickledArray, UnsafeFileError, load_pickle

logger = logging.getLogger(__name__)
T = TypeVar("T")

ZIP_MAGIC = b"PK\x03\x04"
TORCH_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # near the start of files by PyTorch before 1.6
MAX_SAFETENSORS_HEADER = 100 << 20  # bytes; the limit of the format
CLASS_NAMES = "class_names"  # key of the names in a checkpoint, and in safetensors' metadata
ZOO_KEYS = ("model", "__author__", "matching_heuristics")
# In earlier versions, a file can corrupt memory in spite of weights_only (CVE-2026-24747).
SAFE_TORCH_VERSION = (2, 10)


class DamagedFileError(UserError):
    """Raised for a file that is damaged, or that is not a checkpoint."""


def load_checkpoint_file(path: str | Path, *, trusted: bool = False, own: bool = False) -> dict:
    """Loads a checkpoint; its format is detected by content, not by file extension.

    Supported are PyTorch files, safetensors files, and pickles of NumPy arrays such as those in
    Detectron2's and Caffe2's model zoos.

    Args:
        path: a local file.
        trusted: also load files that contain more than data. They are read with Python's own
            unpickler, which runs any code in the file.
        own: the file is from a run of the user, so that it is read as data even by a PyTorch that
            does not read files of others safely.

    Returns:
        A dict in the format of Detectron2's checkpointer: ``model`` with tensors by name, and the
        other content of a training checkpoint. If Detectron2's heuristics have to match the names
        to the model's, ``matching_heuristics`` is True, and ``__author__`` says which library the
        names are from.

    Raises:
        UserError: if the file does not exist, contains more than data, is damaged, or is not a
            checkpoint.
    """
    return read_safely(path, _named_weights, trusted=trusted, own=own)


def load_class_names(path: Path, *, own: bool = False) -> list[str]:
    """Returns the names of the classes that weights were trained on, by index.

    Only the directory of the file is read, not its tensors.

    Args:
        path: a file that :class:`MaskScoringCheckpointer` or :func:`write_weights` has written.
        own: see :func:`load_checkpoint_file`.

    Returns:
        The names; empty if the file has none, is of another format or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(32)
        if _is_safetensors(head, path.stat().st_size):
            with safe_open(path, "pt") as weights:
                names = json.loads((weights.metadata() or {}).get(CLASS_NAMES, "[]"))
        elif head.startswith(ZIP_MAGIC):
            _check_archive(path, True)
            names = _torch_load(path, own=own, mmap=True).get(CLASS_NAMES, [])
        else:
            return []
    except Exception:  # as in read_safely, which reports it when the weights are loaded
        return []
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else []


def read_safely(
    path: str | Path, parse: Callable[[Any], T], *, trusted: bool = False, own: bool = False
) -> T:
    """Loads a file of any library as data, and parses its content.

    Args:
        path: a local file.
        parse: converts the content of the file, or raises if it is not as expected.
        trusted, own: see :func:`load_checkpoint_file`.

    Returns:
        What ``parse`` returns.

    Raises:
        UserError: see :func:`load_checkpoint_file`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint '{path}': no such file")
    if trusted:
        logger.warning("Loading %s as a trusted file: any code in it is run.", path)
    try:
        return parse(_read(path, trusted, own))
    except UserError:
        raise
    except UnsafeFileError as error:
        raise UserError(
            f"'{path}' is refused because it holds more than weights: {_one_line(error)}. "
            "Such a file can run code when it is loaded. If you trust its source, load it "
            "with --trust-weights (in Python: trust_weights=True, or trusted=True of functions "
            "that load files); otherwise ask for its weights as .safetensors"
        ) from error
    except Exception as error:  # readers can raise anything on a file of another format
        raise DamagedFileError(
            f"'{path}' is not a checkpoint, or is damaged: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return printable(str(error).strip().split("\n")[0]) or type(error).__name__


def _read(path: Path, trusted: bool, own: bool) -> Any:
    with path.open("rb") as file:
        head = file.read(32)
        if _is_safetensors(head, path.stat().st_size):
            return {"model": load_file(path)}
        is_zip = head.startswith(ZIP_MAGIC)
        if is_zip or TORCH_MAGIC in head or tarfile.is_tarfile(path):
            if trusted:
                return torch.load(path, map_location="cpu", weights_only=False)
            _check_archive(path, is_zip)
            return _torch_load(path, own=own)
        file.seek(0)
        return pickle.load(file, encoding="latin1") if trusted else _weights_in_pickle(file)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Returns whether a file starts with the header's length in 8 bytes and then JSON."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= min(size - 8, MAX_SAFETENSORS_HEADER)


def _check_archive(path: Path, is_zip: bool) -> None:
    """Rejects archives that ``weights_only`` does not cover, and zip bombs.

    Raises:
        UnsafeFileError: for TorchScript and tar archives, which PyTorch before 2.6 loads without
            restrictions (CVE-2025-32434).
        ValueError: for a zip archive that unpacks to more than its size; PyTorch does not compress.
    """
    if not is_zip:
        if tarfile.is_tarfile(path):
            raise UnsafeFileError("a tar archive, a format that PyTorch no longer writes")
        return
    # Use PyTorch's own reader, so that no archive looks different to PyTorch than to this check.
    if "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise UnsafeFileError("a TorchScript program")
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it would unpack to {size} bytes, more than the size of the file")


def _torch_load(path: Path, *, own: bool = False, mmap: bool = False) -> Any:
    """Loads a PyTorch file with ``weights_only``; ``mmap`` reads a tensor when it is used."""
    if not own and torch.__version__ < SAFE_TORCH_VERSION:
        major, minor = SAFE_TORCH_VERSION
        raise UserError(
            f"'{path}' is refused: PyTorch {torch.__version__} does not load .pth files of others "
            f"safely. Use PyTorch {major}.{minor} or newer, or .safetensors; if you trust the "
            "source of the file, load it with --trust-weights"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol, before it raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        # The message is a page of advice on weights_only=False; extract what was found.
        message = str(error)
        if name := re.search(r"GLOBAL (\S+)", message):
            raise UnsafeFileError(f"the name '{name[1]}'") from error
        found = re.search(r"WeightsUnpickler error:\s*(.+)", message)
        raise UnsafeFileError(found[1] if found else "content that weights_only rejects") from error


def _weights_in_pickle(file: IO[bytes]) -> Any:
    """Loads a pickle as in a model zoo, and keeps its weights and the origin of their names."""
    content = load_pickle(file)
    if isinstance(content, dict) and "model" in content:
        return {key: content[key] for key in ZOO_KEYS if key in content}
    return content


def _named_weights(content: Any) -> dict:
    """Converts the content of a file to the format of Detectron2's checkpointer.

    Raises:
        TypeError, ValueError: if it contains no weights.
    """
    if not isinstance(content, dict):
        raise TypeError(f"it contains a {type(content).__name__}, not a dict of weights")
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
        raise ValueError("it contains no dict of weights")
    for name in weights:  # in place, to keep _metadata: the versions of the layers
        weights[name] = _tensor(name, weights[name])
    return checkpoint


def _is_caffe2(content: dict) -> bool:
    """Detection models have "blobs"; ImageNet models are recognized by names without a dot."""
    if "blobs" in content:
        return isinstance(content["blobs"], dict)
    arrays = all(isinstance(value, np.ndarray | PickledArray) for value in content.values())
    return arrays and not any("." in str(name) for name in content)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, PickledArray):
        value = value.array()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, dict):
        raise TypeError(
            f"its entry '{name}' has entries of its own: save the weights by themselves, or use "
            "`msrcnn convert` if the model is another library's"
        )
    if not isinstance(value, Tensor):
        raise TypeError(f"its entry '{name}' is a {type(value).__name__}, not a tensor")
    if value.device.type != "cpu" or value.nbytes > value.untyped_storage().nbytes():
        raise ValueError(f"its entry '{name}' declares more values than the file has")
    return value
