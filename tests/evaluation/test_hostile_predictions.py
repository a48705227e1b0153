"""Predictions that are damaged, or made to do harm: always one error that names file and record."""

import contextlib
import io
import json
import re
import zipfile

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_ins import index

from msrcnn.errors import UserError
from msrcnn.evaluation import load_predictions, npz_file

RLE = mask_util.encode(np.asfortranarray(np.eye(4, 6, dtype=np.uint8)))
TRUTH = index(
    {
        "images": [{"id": 7, "height": 4, "width": 6, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "a"}],
        "annotations": [],
    }
)
COLUMNS = {
    "format": np.array(1),
    "images": np.array([7]),
    "image_id": np.array([7, 7]),
    "category_id": np.array([3, 3]),
    "bbox": np.array([[0, 0, 2, 2], [1, 1, 2, 2]], dtype=np.float32),
    "score": np.array([0.9, 0.5], dtype=np.float32),
    "mask_score": np.array([0.8, 0.5], dtype=np.float32),
    "mask_counts": np.frombuffer(2 * RLE["counts"], dtype=np.uint8),
    "mask_length": np.array(2 * [len(RLE["counts"])], dtype=np.int32),
    "mask_size": np.array(2 * [RLE["size"]], dtype=np.int32),
}
RESULT = {
    "image_id": 7,
    "category_id": 3,
    "score": 0.5,
    "bbox": [0, 0, 2, 2],
    "segmentation": {"size": RLE["size"], "counts": RLE["counts"].decode()},
}


def npz(**changes) -> bytes:
    """Returns a file with the columns, changed; without those that are ``None``."""
    columns = {k: v for k, v in {**COLUMNS, **changes}.items() if v is not None}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def load(folder, content: bytes):
    path = folder / "p"
    path.write_bytes(content)
    return load_predictions(path, TRUTH)


@contextlib.contextmanager
def one_error(message: str):
    """Expects an error of one line that names the file."""
    with pytest.raises(UserError, match=message) as caught:
        yield
    assert str(caught.value).startswith("predictions '")
    assert len(str(caught.value).splitlines()) == 1


def second(name: str, value) -> dict:
    """Changes a column in its second row."""
    column = COLUMNS[name].copy()
    column[1] = value
    return {name: column}


def named(categories: str) -> dict:
    """Adds the names of categories."""
    return {"categories": np.frombuffer(categories.encode(), dtype=np.uint8)}


def unfinished(place: int) -> dict:
    """Sets the bit of a character that says that its number goes on."""
    counts = COLUMNS["mask_counts"].copy()
    counts[place] = ((counts[place] - 48) | 32) + 48
    return {"mask_counts": counts}


def test_sound_files(tmp_path):
    assert len(load(tmp_path, npz())) == 2
    assert len(load(tmp_path, json.dumps([RESULT]).encode())) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (second("score", np.nan), "detection 1 of image 7 has a score that is not finite, nan"),
        (second("score", np.inf), "detection 1 of image 7 has a score that is not finite, inf"),
        (
            second("mask_score", -np.inf),
            "7 has a mask_score that is not finite, -inf",
        ),
        (
            second("bbox", [0, 0, np.nan, 1]),
            "image 7 has a bbox that is not finite, .*nan",
        ),
        (second("bbox", [5, 5, -3, 2]), "detection 1 of image 7 has bbox .* is not .x, y, width"),
        (second("image_id", -7), "detection 1 has image_id -7, which is not in the annotations"),
        (second("category_id", 4), "detection 1 has category_id 4, which is not in"),
        (second("mask_size", [6, 4]), "detection 1 has a mask of size .6, 4.* its image 7 has"),
        (second("mask_size", [4, 7]), "detection 1 of image 7 has a damaged RLE mask"),
        (second("mask_size", [2**31 - 1, 2**31 - 1]), "detection 1 .* has a damaged RLE"),
        (second("mask_size", [-4, -6]), "detection 1 .* has a damaged RLE"),
        (second("mask_length", 99), "the lengths of its masks do not add up"),
        ({"mask_length": np.array([-1, 2 * len(RLE["counts"]) + 1])}, "do not add up"),
        ({"mask_counts": COLUMNS["mask_counts"] + 32}, "detection 0 of image 7 has a damaged RLE"),
        (unfinished(len(RLE["counts"]) - 1), "detection 0 of image 7 has a damaged RLE"),
        ({"mask_counts": COLUMNS["mask_counts"] & 15}, "detection 0 of image 7 has a damaged RLE"),
        ({"mask_counts": None}, "it lacks mask_counts"),
        ({"score": np.ones(3)}, "columns differ in length"),
        ({"score": np.ones((2, 1))}, r"score is float64 of shape \(2, 1\)"),
        ({"score": np.array(1.0)}, r"score is float64 of shape \(\)"),
        ({"image_id": np.array([7.0, 7.0])}, "image_id is float64"),
        ({"image_id": np.array(["7", "7"])}, "not of numeric arrays"),
        ({"image_id": np.array([{}, {}], dtype=object)}, "not of numeric arrays"),
        ({"score": None}, "it lacks score"),
        ({"nonsense": np.ones(2)}, "it has nonsense"),
        ({"format": np.array([1, 2])}, "another version"),
        (named("{"), "damaged: categories"),
        ({"image_names": np.frombuffer(b'{"7": 5}', np.uint8)}, "image_names: a name is not a str"),
        (named("[3]"), "damaged: categories"),
        (named('{"x": "a"}'), "damaged: categories"),
        (named('{"3": 5}'), "damaged: categories: a name is not a string"),
        (named('{"4": "a"}'), "detection 0 has category_id 3, which is none of its categories"),
        (named('{"3": "b"}'), "they are of .*b.*, but the dataset has"),
        ({"format": None}, "it lacks format"),
    ],
)
def test_damaged_columns(tmp_path, changes, message):
    with one_error(message):
        load(tmp_path, npz(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": float("nan")}, "record 0: score is nan"),
        ({"score": "1"}, "record 0: score is '1'"),
        ({"score": None}, "record 0: score is null"),
        ({"image_id": "7"}, "record 0: image_id is '7'"),
        ({"image_id": 7.5}, "record 0: image_id is 7.5"),
        ({"image_id": 10**30}, "record 0: image_id is 1000"),
        ({"category_id": True}, "record 0: category_id is True"),
        ({"category_id": 4}, "detection 0 has category_id 4, which is not in"),
        ({"bbox": [0, 0, 2]}, "record 0: bbox is"),
        ({"bbox": [0, 0, 2, None]}, "record 0: bbox.3 is null"),
        ({"segmentation": [[0, 0, 2, 2, 0, 2]]}, "record 0: segmentation is"),
        ({"segmentation": {"size": [4, 6], "counts": "é"}}, "detection 0 .* has a damaged RLE"),
        ({"segmentation": {"size": [4, 6], "counts": ""}}, "detection 0 .* has a damaged RLE"),
        ({"segmentation": {"size": [4, 6], "counts": [20, 5]}}, "detection 0 .* has a damaged RLE"),
        ({"segmentation": {"size": [4, 6], "counts": [25, -1]}}, r"counts.1 is -1"),
        ({"segmentation": {"size": [4, 6], "counts": [2**32 + 24]}}, "counts.0 is 42949"),
        ({"segmentation": {"size": [2**40, 6], "counts": "1"}}, "record 0: segmentation.size"),
    ],
)
def test_damaged_results(tmp_path, changes, message):
    with one_error(message):
        load(tmp_path, json.dumps([{**RESULT, **changes}]).encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "neither .npz nor JSON"),
        (b"[1" + b"0" * 5000 + b"]", "neither .npz nor JSON"),
        (b"\xff\xfe", "neither .npz nor JSON"),
        (b"", "neither .npz nor JSON"),
    ],
)
def test_text_that_is_not_results(tmp_path, content, message):
    with one_error(message):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        # Evaluated as boxes, the masks would be left out in silence.
        (["bbox"], ["bbox", "segmentation"], "record 0 has no segmentation, as others have"),
        (["bbox"], ["segmentation"], "record 0 has no segmentation, as others have"),
        (["bbox"], [], "record 1 has no bbox, as others have"),
        ([], [], "record 0 has no bbox or segmentation"),
    ],
)
def test_records_of_different_kinds(tmp_path, first, second, message):
    rest = {key: value for key, value in RESULT.items() if key not in ("bbox", "segmentation")}
    records = [{**rest, **{key: RESULT[key] for key in keys}} for keys in (first, second)]
    with one_error(message):
        load(tmp_path, json.dumps(records).encode())


def test_a_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "_read_array", lambda file: pytest.fail("unpacked"))
    monkeypatch.setattr(npz_file, "SMALL", 1 << 20)
    with one_error("would unpack to 2 MB; the limit for a file of its size is 1"):
        load(tmp_path, npz(images=np.zeros(2 << 17, dtype=np.int64)))


def test_limits(tmp_path, monkeypatch):
    content = npz()
    size = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
    ratio = size / len(content)
    monkeypatch.setattr(npz_file, "SMALL", 0)
    monkeypatch.setattr(npz_file, "MAX_RATIO", ratio + 0.01)
    load(tmp_path, content)
    monkeypatch.setattr(npz_file, "MAX_RATIO", ratio - 0.01)
    with one_error("would unpack"):
        load(tmp_path, content)
    monkeypatch.setattr(npz_file, "MAX_RATIO", ratio + 0.01)
    monkeypatch.setattr(npz_file, "MAX_BYTES", size - 1)
    with one_error("would unpack"):
        load(tmp_path, content)


def test_declared_shape_is_not_allocated(tmp_path):
    """NumPy would allocate the shape in the header, here 8 TB, before it reads."""
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(header, shape)
    content = io.BytesIO(npz(score=None))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("score.npy", header.getvalue() + bytes(16))
    with one_error("16 bytes for an array of shape"):
        load(tmp_path, content.getvalue())


@pytest.mark.parametrize("flag", ["encrypted", "compression"])
def test_archives_that_zipfile_cannot_read(tmp_path, flag):
    content = bytearray(npz())
    offset = {"encrypted": 8, "compression": 10}[flag]  # in an entry of the central directory
    for match in re.finditer(b"PK\x01\x02", bytes(content)):
        content[match.start() + offset] = 1
    with one_error("damaged"):
        load(tmp_path, bytes(content))


@given(st.data())
def test_mutated_bytes_load_or_are_one_error(tmp_path_factory, data):
    whole = data.draw(st.sampled_from([npz(), json.dumps([RESULT, RESULT]).encode()]))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(0, len(content))) or len(content) :]
    with contextlib.suppress(UserError):
        load(tmp_path_factory.getbasetemp(), bytes(content))
