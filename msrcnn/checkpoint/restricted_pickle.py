"""An unpickler for weights: plain containers, strings, numbers and numeric arrays.

A pickle is a program that imports names and calls them. This unpickler resolves only the few names
that arrays and plain containers need, and rejects every other name without importing it. Names of
NumPy resolve to functions of this module that only record their arguments. NumPy's own
reconstruction is not called, since it is not safe on untrusted data: a file can set the flags of a
dtype, and with forged flags NumPy interprets raw bytes of the file as pointers to objects.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import IO, Any

import numpy as np

NUMERIC_TYPES = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)


class UnsafeFileError(pickle.UnpicklingError):
    """Raised for a file that contains more than data; the message names what was found."""


class _PickledDtype:
    """The content of a pickled NumPy dtype."""

    __slots__ = ("code", "state")

    def __init__(self, code: str):
        self.code = code
        self.state = (3, "=", None, None, None, -1, -1, 0)

    def __setstate__(self, state) -> None:
        self.state = state

    def dtype(self) -> np.dtype:
        _, order, subdtype, names, fields, *_ = self.state
        if self.code not in NUMERIC_TYPES or (subdtype, names, fields) != (None, None, None):
            raise UnsafeFileError(f"an array of NumPy type '{self.code}', which is not numeric")
        return np.dtype(self.code).newbyteorder(order)


class PickledArray:
    """The content of a pickled NumPy array, see :meth:`array`."""

    __slots__ = ("_array", "state")

    def __init__(self, *state):
        self.state = state  # version, shape, dtype, whether in Fortran order, bytes
        self._array = None

    def __setstate__(self, state) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """Returns the array in native byte order, the same at every call.

        Raises:
            UnsafeFileError: if the array is not numeric.
            TypeError, ValueError: if shape, dtype and bytes do not form an array.
        """
        if self._array is None:  # a file can name one array many times
            self._array = self._made()
        return self._array

    def _made(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _PickledDtype):
            raise TypeError("an array without a dtype")
        dtype = dtype.dtype()
        if isinstance(data, str):  # bytes in Python 2
            data = data.encode("latin1")
        array = np.ndarray(shape, dtype, buffer=data, order="F" if fortran else "C")
        if array.nbytes != len(data):
            raise ValueError(f"{len(data)} bytes for an array of shape {array.shape}, {dtype}")
        return array.astype(dtype.newbyteorder("="))


# These functions use neither default values nor attributes: a file can overwrite both with the
# BUILD opcode, and would so affect the files loaded after it.


def _dtype(code, *_):
    return _PickledDtype(code)


def _reconstruct(*_):
    return PickledArray()  # its state, with shape and dtype, follows


def _frombuffer(data, dtype, shape, order):
    return PickledArray(1, shape, dtype, order == "F", data)


def _scalar(dtype, data):
    return _frombuffer(data, dtype, (), "C")


def _empty_bytes():
    return b""


ALLOWED_NAMES = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): "numpy.ndarray",  # only an argument of _reconstruct, never called
    **{(module, "bytes"): _empty_bytes for module in ("builtins", "__builtin__")},
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # before and since NumPy 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], size: int):
        super().__init__(file, encoding="latin1")  # Python 2 pickles arrays as str
        self._left = size

    def _encode(self, text, encoding):
        if encoding != "latin1":
            raise UnsafeFileError(f"text in '{encoding}'")
        self._left -= len(text)
        if self._left < 0:  # it has the same text encoded many times
            raise ValueError("it would unpack to more than its size")
        return text.encode("latin1")  # this is how protocol 2 stores bytes

    def find_class(self, module: str, name: str):
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) in ALLOWED_NAMES:
            return ALLOWED_NAMES[module, name]
        hint = (
            ", part of a PyTorch tensor: save tensors with torch.save"
            if module[:5] == "torch"
            else ""
        )
        raise UnsafeFileError(f"the name '{module}.{name}'{hint}")

    def persistent_load(self, pid):
        raise UnsafeFileError("a reference to an object outside the file")


def load_pickle(file: IO[bytes]) -> Any:
    """Loads a pickle of weights without calling anything that the file names.

    Args:
        file: a file open for reading, written by Python 2 or 3 in any protocol.

    Returns:
        The pickled object, with a :class:`PickledArray` in place of each array.

    Raises:
        UnsafeFileError: if the file contains anything but numbers, strings, plain containers and
            arrays.
        Exception: of many types, if the file is damaged or not a pickle.
    """
    content = file.read()
    _check_memo(content)
    return _Unpickler(io.BytesIO(content), len(content)).load()


def _check_memo(content: bytes) -> None:
    """Rejects high numbers of stored objects: Python fills a list up to them."""
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and number > len(content):
            raise ValueError(f"it stores an object as number {number}")
