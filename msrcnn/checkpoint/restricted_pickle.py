"""Pickled weights read as data: plain containers, strings, numbers and arrays of numbers.

A pickle is a program that calls what it names. Here the few names that stand for an array or a
plain container are answered, the former by functions of ours which only write down what the file
says; every other name is refused before it is imported. Not even NumPy's own reconstruction is
called: a file sets a dtype's flags, and with false ones an array of objects takes raw bytes for
its pointers.
"""

import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np

NUMBERS = frozenset(
    ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
)


class RefusedError(pickle.UnpicklingError):
    """What a file holds beside data; the message names it."""


class _PickledDtype:
    """What a pickle says of a NumPy dtype."""

    __slots__ = ("code", "state")

    def __init__(self, code: str):
        self.code = code
        self.state = (3, "=", None, None, None, -1, -1, 0)

    def __setstate__(self, state) -> None:
        self.state = state

    def dtype(self) -> np.dtype:
        _, order, subdtype, names, fields, *_ = self.state
        if self.code not in NUMBERS or (subdtype, names, fields) != (None, None, None):
            raise RefusedError(f"an array of NumPy type '{self.code}', which is not of numbers")
        return np.dtype(self.code).newbyteorder(order)


class PickledArray:
    """What a pickle says of a NumPy array; :meth:`array` makes it."""

    __slots__ = ("state",)

    def __init__(self, *state):
        self.state = state  # version, shape, type, whether in Fortran's order, bytes

    def __setstate__(self, state) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, in the machine's byte order.

        Raises:
            RefusedError: if it is not of numbers.
            TypeError, ValueError: if what the file says does not make an array.
        """
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _PickledDtype):
            raise TypeError("an array without a type")
        dtype = dtype.dtype()
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin1")
        array = np.ndarray(shape, dtype, buffer=data, order="F" if fortran else "C")
        if array.nbytes != len(data):
            raise ValueError(f"{len(data)} bytes for an array of shape {array.shape}, {dtype}")
        return array.astype(dtype.newbyteorder("="))


# Without defaults or attributes that a file could set to something else for the next one.


def _dtype(code, *_):
    return _PickledDtype(code)


def _reconstruct(*_):
    return PickledArray()  # shape and type follow in its state


def _frombuffer(data, dtype, shape, order):
    return PickledArray(1, shape, dtype, order == "F", data)


def _scalar(dtype, data):
    return _frombuffer(data, dtype, (), "C")


def _encode(text, encoding):
    if encoding != "latin1":
        raise RefusedError(f"text in '{encoding}'")
    return text.encode("latin1")  # how bytes are written in protocol 2


def _empty_bytes():
    return b""


ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): "numpy.ndarray",  # an argument of _reconstruct, never called
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
    def find_class(self, module: str, name: str):
        if (module, name) in ADMITTED:
            return ADMITTED[module, name]
        hint = ", a PyTorch tensor's: save those by torch.save" if module[:5] == "torch" else ""
        raise RefusedError(f"the name '{module}.{name}'{hint}")

    def persistent_load(self, pid):
        raise RefusedError("a reference to something outside the file")


def load_pickle(file: IO[bytes]) -> Any:
    """Read a pickle of weights, calling nothing that it names.

    Args:
        file: open for reading; written by Python 2 or 3, in any protocol.

    Returns:
        What was pickled, with a :class:`PickledArray` for every array.

    Raises:
        RefusedError: at anything but numbers, strings, plain containers and arrays.
        Exception: of many kinds, if the file is damaged or is no pickle.
    """
    return _Unpickler(file, encoding="latin1").load()  # Python 2 knew bytes for strings
