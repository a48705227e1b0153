"""Images of any depth and mode: training, prediction and drawings see the same pixels."""

import re

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import read_image
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.image_files import image_problems, read_header
from msrcnn.data.image_values import picture_problem, suggestion, values_of
from msrcnn.data.mapper import ImageMapper, NamedErrors
from msrcnn.data.pixels import FULL_RANGE, OWN_RANGE, eight_bits, read_pixels
from msrcnn.engine.config_values import CHANNELS, check_values
from msrcnn.errors import UserError
from msrcnn.prediction.image_input import as_picture
from msrcnn.visualization import read_rgb

GREY = np.add.outer(np.arange(40) * 3, np.arange(60) * 2).astype(np.uint8)
DEEP = GREY.astype(np.uint16) * 257  # 0 to 65535
COLORS = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same grey image in files of several depths, and images of 8 bits in several modes."""
    folder = tmp_path_factory.mktemp("images")
    for name, pixels in {
        "eight.png": GREY,
        "deep.png": DEEP,
        "little.tif": DEEP.astype("<u2"),
        "big.tif": DEEP.astype(">u2"),
        "int.tif": DEEP.astype(np.int32),
        "float.tif": DEEP.astype(np.float32),
    }.items():
        Image.fromarray(pixels).save(folder / name)
    picture = Image.fromarray(COLORS)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture.convert(mode).save(folder / f"mode_{mode}.png")
    for mode in ("CMYK", "YCbCr"):
        picture.convert(mode).save(folder / f"mode_{mode}.tif")
    exif = picture.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(folder / "turned.jpg", exif=exif)
    cv2.imwrite(str(folder / "colors.png"), np.dstack([DEEP] * 3))
    Image.new("LAB", (60, 40)).save(folder / "lab.tif")
    return folder


def record(path):
    with Image.open(path) as image:
        size = image.size[::-1] if path.name == "turned.jpg" else image.size
    return {"id": 1, "file_name": path.name, "width": size[0], "height": size[1]}


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_tiff_is_turned_once(tmp_path, orientation, compression):
    """Pillow turns its pixels by itself, newer versions its size already when it is opened."""
    path, turns = tmp_path / "a.tif", {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    for pixels in (GREY, DEEP):
        picture = Image.fromarray(pixels)
        picture.save(path, tiffinfo={0x0112: orientation}, compression=compression)
        read = read_pixels(str(path), "L", (0, 65535))[:, :, 0]
        assert np.array_equal(read, np.rot90(GREY, turns))
        assert read_header(str(path)).shown == read.shape[::-1]


@pytest.mark.parametrize("name", ["deep.png", "little.tif", "big.tif", "int.tif", "float.tif"])
@pytest.mark.parametrize("image_format", ["BGR", "L"])
def test_any_depth_gives_the_same_pixels_everywhere(folder, tiny_cfg, name, image_format):
    tiny_cfg.INPUT.VALUE_RANGE, tiny_cfg.INPUT.FORMAT = FULL_RANGE, image_format
    shallow, deep = (str(folder / each) for each in ("eight.png", name))
    assert np.array_equal(
        read_pixels(deep, image_format, FULL_RANGE), read_image(shallow, image_format)
    )
    inputs = [
        ImageMapper(tiny_cfg, False)({**record(folder / each), "file_name": str(folder / each)})
        for each in ("eight.png", name)
    ]
    assert torch.equal(inputs[0]["image"], inputs[1]["image"])
    with Image.open(deep) as image:
        assert np.array_equal(as_picture(image, FULL_RANGE), GREY)
    assert np.array_equal(as_picture(deep, FULL_RANGE), GREY)
    assert image_problems([record(folder / name)], folder, value_range=FULL_RANGE) == []


def test_arrays_of_more_than_8_bits():
    for array in (DEEP, DEEP[:, :, None], DEEP.astype(np.int32)):
        assert np.array_equal(as_picture(array, FULL_RANGE), GREY)
    assert np.array_equal(as_picture(COLORS.astype(np.uint16) * 257, FULL_RANGE), COLORS)
    assert np.array_equal(as_picture(GREY, FULL_RANGE), GREY)  # 8 bits stay as they are
    with pytest.raises(UserError, match="an array of type float32"):
        as_picture(DEEP.astype(np.float32), FULL_RANGE)


def test_values_by_hand():
    values = np.array([0, 99, 100, 150, 300, 400], dtype=np.uint16)
    # (150 - 100) / (300 - 100) * 255 = 63.75
    assert eight_bits(values, (100, 300)).tolist() == [0, 0, 0, 64, 255, 255]
    assert eight_bits(values[3:], OWN_RANGE).tolist() == [0, 153, 255]
    assert eight_bits(values[:1], OWN_RANGE).tolist() == [0]
    with pytest.raises(ValueError, match="NaN"):
        eight_bits(np.array([np.nan]), (0, 1))


@pytest.mark.parametrize(("image_format", "channels"), CHANNELS.items())
def test_every_format_is_read_as_bytes(folder, image_format, channels):
    """The model does not take other types."""
    pixels = read_pixels(str(folder / "mode_RGB.png"), image_format, ())
    assert (pixels.dtype, pixels.shape[2]) == (np.uint8, channels)


@pytest.mark.parametrize("image_format", CHANNELS)
def test_images_of_8_bits_are_read_as_detectron2_reads_them(folder, tiny_cfg, image_format):
    tiny_cfg.INPUT.FORMAT = image_format
    paths = [*folder.glob("mode_*"), folder / "turned.jpg"]
    assert len(paths) == 9
    for path in paths:
        mapped = [
            mapper(tiny_cfg, False)({**record(path), "file_name": str(path)})["image"]
            for mapper in (ImageMapper, DatasetMapper)
        ]
        assert torch.equal(*mapped), path
        assert np.array_equal(as_picture(path).convert("RGB"), read_image(str(path), "RGB")), path
        assert image_problems([record(path)], folder) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deep.png", "has pixels of more than 8 bits .Pillow's mode I;16.; set INPUT.VALUE_RANGE"),
        ("float.tif", "has pixels of more than 8 bits .Pillow's mode F."),
        ("colors.png", "has colors of 16 bits, of which Pillow reads the upper 8 bits"),
        ("lab.tif", "has colors that Pillow cannot convert .mode LAB."),
    ],
)
def test_what_the_model_cannot_read_is_refused_everywhere(folder, tiny_cfg, name, message):
    path = folder / name
    (problem,) = image_problems([record(path)], folder)
    assert re.search(message, problem)
    mapper = NamedErrors(ImageMapper(tiny_cfg, False))
    with pytest.raises(UserError, match=f"{name}.*cannot be used: it {message}"):
        mapper({**record(path), "file_name": str(path)})
    with pytest.raises(UserError, match=f"cannot read image .*{name}': it {message}"):
        as_picture(path)
    refused = pytest.raises(UserError, match=f"cannot use the image: it {message}")
    with Image.open(path) as image, refused:
        as_picture(image)


def test_colors_of_16_bits_need_the_full_range(folder):
    path = folder / "colors.png"
    assert image_problems([record(path)], folder, value_range=FULL_RANGE) == []
    assert np.array_equal(as_picture(path, FULL_RANGE), np.dstack([GREY] * 3))
    (problem,) = image_problems([record(path)], folder, value_range=(0, 4095))
    assert '"(0, 65535)" if they use them' in problem


def test_drawings_show_an_image_by_its_own_range(folder, tmp_path):
    dark = tmp_path / "dark.png"
    Image.fromarray(GREY.astype(np.uint16) + 1000).save(dark)
    shown = read_rgb(dark)
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.array_equal(read_rgb(folder / "eight.png")[:, :, 0], GREY)


def content(folder, *names):
    return {
        "images": [{**record(folder / name), "id": i} for i, name in enumerate(names, start=1)],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}],
    }


@pytest.mark.parametrize(
    ("value_range", "message"),
    [
        (FULL_RANGE, None),
        ((0, 4095), "1 image has values from 0 to .* are beyond INPUT.VALUE_RANGE .0, 4095."),
        ((0, 1_000_000), "a small part of INPUT.VALUE_RANGE .*: nearly all contrast is lost"),
    ],
)
def test_a_range_that_does_not_fit_is_a_warning(folder, value_range, message):
    data = content(folder, "deep.png")
    findings = check_coco(data, folder, training=False, value_range=value_range)
    if message is None:
        assert findings == []
    else:
        (finding,) = findings
        assert not finding.stops
        assert re.search(message, finding.messages[0])


def test_images_that_are_unlike_the_others_are_named(folder, tmp_path):
    """One of 8 bits, one that is black, and one of fractions, in a set of 16 bits."""
    Image.fromarray(GREY).save(tmp_path / "eight.png")
    Image.fromarray(np.zeros_like(DEEP)).save(tmp_path / "zeros.png")
    Image.fromarray((DEEP / 65535).astype(np.float32)).save(tmp_path / "fractions.tif")
    for name in ("a.png", "b.png"):
        Image.fromarray(DEEP).save(tmp_path / name)
    names = ("a.png", "b.png", "eight.png", "zeros.png", "fractions.tif")
    data = content(tmp_path, *names)
    flat, shallow = check_coco(data, tmp_path, training=False, value_range=FULL_RANGE)
    assert not flat.stops
    assert not shallow.stops
    zeros, fractions = flat.messages
    assert "image 4: " in zeros
    assert "completely black to the model: it has the value 0 only" in zeros
    assert "image 5: " in fractions
    assert "keeps nothing of them" in fractions
    (eight,) = shallow.messages
    assert "image 3: " in eight
    assert "has 8 bits, unlike 4 other images" in eight


def test_a_set_of_8_bits_does_not_use_the_range(folder):
    (finding,) = check_coco(
        content(folder, "eight.png"), folder, training=False, value_range=FULL_RANGE
    )
    assert not finding.stops
    assert "all 1 images have 8 bits" in finding.messages[0]


def test_a_range_that_leaves_nothing_is_an_error(folder):
    data = content(folder, "deep.png", "int.tif")
    value_range = (-2, -1)
    (finding,) = check_coco(data, folder, training=False, value_range=value_range)
    assert finding.stops
    assert "makes 2 of them completely white" in finding.messages[0]
    assert 'INPUT.VALUE_RANGE "(0, 65535)" holds them all' in finding.messages[0]


def test_values_that_are_not_finite_are_an_error(tmp_path):
    for name in ("a.tif", "b.tif"):
        pixels = GREY.astype(np.float32)
        pixels[3, 4] = np.nan if name == "b.tif" else 1
        Image.fromarray(pixels).save(tmp_path / name)
    data = content(tmp_path, "a.tif", "b.tif")
    (finding,) = check_coco(data, tmp_path, training=False, value_range=(0, 300))
    assert finding.stops
    (message,) = finding.messages
    assert "image 2: " in message
    assert "NaN" in message


def test_decoding_looks_at_the_values_of_all_images(tmp_path, monkeypatch):
    monkeypatch.setattr("msrcnn.data.image_values.SAMPLED", 2)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(DEEP * (name != "b.png")).save(tmp_path / name)
    data = content(tmp_path, "a.png", "b.png", "c.png")
    check = {"training": False, "value_range": FULL_RANGE}
    assert check_coco(data, tmp_path, **check) == []
    (finding,) = check_coco(data, tmp_path, decode=True, **check)
    assert "image 2: " in finding.messages[0]


@pytest.mark.parametrize(
    ("values", "high"),
    [
        *(([0, 200], 255), ([3, 300], 511), ([3, 4095], 4095), ([3, 4096], 8191)),
        *(([0.1, 0.9], 1), ([0.1, 1.0], 1)),
    ],
)
def test_a_range_is_suggested(values, high):
    assert f'"(0, {high})"' in suggestion(values_of(np.array(values)))


@pytest.mark.parametrize("values", [[0, 1], [0, 0], [-5, 9], [0, 70000], [0.5, np.nan]])
def test_no_range_is_suggested(values):
    assert suggestion(values_of(np.array(values))) == ""


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (None, "8 bits"),
        (DEEP, None),
        (DEEP * 0, "flat"),
        (DEEP + np.int32(40000), "clipped"),
        (DEEP // 1000, "flat"),
        (DEEP // 20, "faint"),
        (DEEP // 20 + np.uint16(20000), "faint"),
    ],
)
def test_what_is_unlike_the_training_is_told(array, kind):
    found = picture_problem(array, FULL_RANGE)
    assert (found and found[0]) == kind


def test_the_values_are_named_where_a_range_is_missing(folder):
    data = content(folder, "eight.png", "deep.png", "int.tif")
    (finding,) = check_coco(data, folder, training=False)
    assert finding.stops
    assert [message.split(":")[0] for message in finding.messages] == ["image 2", "image 3"]
    high = int(DEEP.max())
    assert all(f"; 2 images have values from 0 to {high}" in each for each in finding.messages)


def test_the_cache_of_headers_does_not_hide_the_depth(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("msrcnn.data.header_cache.CACHED_FROM", 1)
    monkeypatch.setattr("msrcnn.data.header_cache.SETTLED", -1)
    for name in ("deep.png", "colors.png"):
        records = [record(folder / name)]
        assert image_problems(records, folder, value_range=FULL_RANGE) == []
        assert len(image_problems(records, folder)) == 1


@pytest.mark.parametrize("value", [(0,), (5, 5), (9, 3), (0, 1, 2), ("a", "b"), (0, True)])
def test_ranges_that_are_none(tiny_cfg, value):
    tiny_cfg.INPUT.VALUE_RANGE = value
    with pytest.raises(UserError, match="INPUT.VALUE_RANGE is .*two numbers"):
        check_values(tiny_cfg)
