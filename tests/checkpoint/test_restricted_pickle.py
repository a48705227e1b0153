import contextlib
import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from msrcnn.checkpoint.restricted_pickle import NUMERIC_TYPES, UnsafeFileError, load_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
# As in Caffe2's models, which were written by Python 2: text and bytes have the same type.
PYTHON2 = (
    b"\x80\x02}U\x06conv_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
    b"\x87R(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80\x3f\x00\x00\x20\xc0tbs."
)


def load(content: bytes):
    return load_pickle(io.BytesIO(content))


@given(
    array=npst.arrays(
        st.sampled_from(
            [np.dtype(order + code) for code in sorted(NUMERIC_TYPES) for order in "<>"]
        ),
        npst.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    transposed=st.booleans(),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_arrays_round_trip(array, transposed, protocol):
    array = array.T if transposed else array
    found = load(pickle.dumps({"w": array}, protocol))["w"].array()
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.dtype.isnative
    assert found.flags.writeable
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_containers_and_numpy_scalars(protocol):
    content = OrderedDict(a=[1, 2.5, None, True, "ä"], b=("x", {"y": b"bytes"}))
    assert load(pickle.dumps(content, protocol)) == content
    assert load(pickle.dumps(np.float32(1.5), protocol)).array() == np.float32(1.5)


def test_versions_of_a_state_dict_are_kept():
    content = OrderedDict(w=1)
    content._metadata = {"": {"version": 3}}
    assert load(pickle.dumps(content))._metadata == {"": {"version": 3}}


def test_python_2():
    expected = pickle.loads(PYTHON2, encoding="latin1")["conv_w"]
    assert expected.tolist() == [[1.0, -2.5]]
    np.testing.assert_array_equal(load(PYTHON2)["conv_w"].array(), expected)


class Reduce:
    """Pickles as a call of a function, optionally with a state."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.zeros(2, [("a", "O")]),
        np.zeros(2, [("a", "f4")]),
        np.zeros(2, "U3"),
        np.zeros(2, "M8[s]"),
        np.zeros(2, np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_only_numeric_arrays(array):
    with pytest.raises(UnsafeFileError, match="NumPy type '.*', which is not numeric"):
        load(pickle.dumps(array)).array()


def test_forged_flags_do_not_turn_bytes_into_pointers():
    """NumPy itself trusts flags which say that an array of objects contains none."""
    make, arguments, state = np.dtype("O").__reduce__()
    forged = Reduce(make, arguments, (*state[:7], 0))
    make, arguments, _ = np.zeros(1).__reduce__()
    content = pickle.dumps(Reduce(make, arguments, (1, (1,), forged, False, b"\x00" * 8)))
    assert pickle.loads(content).dtype == object  # its element is a null pointer
    with pytest.raises(UnsafeFileError, match="NumPy type 'O8'"):
        load(content).array()


@pytest.mark.parametrize(
    "state",
    [
        (1, (10**15,), np.dtype("f4"), False, b"1234"),
        (1, (-1, -1), np.dtype("f4"), False, b"1234"),
        (1, (1,), np.dtype("f8"), False, b"1234"),
        (1, (1,), np.dtype("f4"), False, b"12345678"),
        (1, ("a",), np.dtype("f4"), False, b"1234"),
        (1, (1,), "f4", False, b"1234"),
        (1, (1,), np.dtype("f4"), False, 5),
        (1, (1,)),
        None,
    ],
    ids=str,
)
def test_inconsistent_shape_dtype_and_bytes(state):
    make, arguments, _ = np.zeros(1).__reduce__()
    with pytest.raises((TypeError, ValueError)):
        load(pickle.dumps(Reduce(make, arguments, state))).array()


def test_shape_without_data_allocates_no_memory():
    make, (cls, _, code), _ = np.zeros(1).__reduce__()
    array = load(pickle.dumps(Reduce(make, (cls, (10**15,), code))))
    with pytest.raises(ValueError, match="not enough values"):
        array.array()


def test_a_number_of_a_stored_object_allocates_no_memory():
    """Python's unpickler would fill 16 GB for these ten bytes."""
    with pytest.raises(ValueError, match="stores an object as number 2000000000"):
        load(b"\x80\x02Nr" + (2 * 10**9).to_bytes(4, "little") + b".")


def test_text_is_not_encoded_again_and_again():
    text = b"X\x40\x00\x00\x00" + bytes(64) + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    encode = b"c_codecs\nencode\nq\x02"
    once = b"\x80\x02" + text + b"0" + encode + b"h\x00h\x01\x86R"
    assert load(once + b".") == bytes(64)
    with pytest.raises(ValueError, match="more than its size"):
        load(once + 20 * b"0h\x02h\x00h\x01\x86R" + b".")


def test_an_array_with_many_names_is_made_once():
    first, second = load(pickle.dumps(2 * [np.ones(3)]))
    assert first.array() is second.array()


def test_other_encodings_are_rejected():
    with pytest.raises(UnsafeFileError, match="text in 'rot13'"):
        load(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")


def test_persistent_ids_are_rejected():
    with pytest.raises(UnsafeFileError, match="an object outside the file"):
        load(b"Psomewhere\n.")


def test_a_file_cannot_affect_the_next_one():
    """The BUILD opcode sets attributes on any object, including functions."""
    before = load(pickle.dumps(np.ones(2))).array()
    for name in (
        b"numpy\ndtype\n",
        b"numpy._core.multiarray\n_reconstruct\n",
        b"_codecs\nencode\n",
    ):
        for state in (b"}U\x08__call__K\x01s", b"N}U\x0c__defaults__K\x01\x85s\x86"):
            with contextlib.suppress(AttributeError, TypeError, pickle.UnpicklingError):
                load(b"\x80\x02c" + name + state + b"b.")
    np.testing.assert_array_equal(load(pickle.dumps(np.ones(2))).array(), before)
