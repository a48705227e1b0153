"""Files of labelme, converted to COCO."""

import base64
import io
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.other_formats import read_other
from msrcnn.errors import UserError

SQUARE = [[2, 3], [12, 3], [12, 9], [2, 9]]


def shape(kind="polygon", label="dog", points=SQUARE, **more):
    return {"shape_type": kind, "label": label, "points": points, "group_id": None, **more}


def encoded(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def convert(tmp_path):
    """Returns a function that converts shapes of one image."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def convert(*shapes, **changes):
        content = {"imagePath": "a.png", "imageWidth": 40, "imageHeight": 30, "shapes": shapes}
        (tmp_path / "a.json").write_text(json.dumps({**content, **changes}))
        return read_other("labelme", tmp_path, tmp_path)

    return convert


def test_polygons(convert, tmp_path):
    content, left_out = convert(shape(), shape(label="cat", points=SQUARE[:3]), shape("line"))
    assert [c["name"] for c in content["categories"]] == ["cat", "dog"]
    assert [a["category_id"] for a in content["annotations"]] == [2, 1]
    dog = content["annotations"][0]
    assert (dog["bbox"], dog["area"]) == ([2, 3, 10, 6], 60)
    assert dog["segmentation"] == [[2, 3, 12, 3, 12, 9, 2, 9]]
    assert left_out == ["left out 1 of kind 'line', which have no area"]
    assert check_coco(content, tmp_path) == []


def test_a_group_is_one_instance(convert):
    moved = [[x + 20, y + 10] for x, y in SQUARE]
    content, _ = convert(shape(group_id=1), shape(points=moved, group_id=1), shape(group_id=2))
    first, second = content["annotations"]
    assert (len(first["segmentation"]), len(second["segmentation"])) == (2, 1)
    assert first["bbox"] == [2, 3, 30, 16]


def test_circles(convert, tmp_path):
    """labelme gives the center and a point of the edge."""
    content, left_out = convert(shape("circle", points=[[20, 15], [23, 19]]))
    (found,) = content["annotations"]
    assert left_out == []
    assert found["bbox"] == pytest.approx([15, 10, 10, 10])
    assert found["area"] == pytest.approx(np.pi * 25, rel=0.05)
    assert check_coco(content, tmp_path) == []


def test_masks(convert, tmp_path):
    part = np.array([[1, 0, 1], [1, 1, 1]], dtype=np.uint8)
    corners = [[5, 6], [7, 7]]
    content, _ = convert(shape("mask", points=corners, mask=encoded(part)))
    (found,) = content["annotations"]
    expected = np.zeros((30, 40), dtype=np.uint8)
    expected[6:8, 5:8] = part
    assert np.array_equal(mask_util.decode(found["segmentation"]), expected)
    assert (found["bbox"], found["area"]) == ([5, 6, 3, 2], 5)
    assert check_coco(content, tmp_path) == []


@pytest.mark.parametrize("folder", ["..\\pictures", "../{}", "{}"])
def test_paths_of_another_machine(convert, tmp_path, folder):
    """Also if they lead to the picture by accident: names must not leave the image folder."""
    folder = folder.format(tmp_path if folder == "{}" else tmp_path.name)
    content, _ = convert(shape(), imagePath=f"{folder}/a.png")
    assert content["images"][0]["file_name"] == "a.png"
    assert check_coco(content, tmp_path) == []


@pytest.mark.parametrize(
    ("shapes", "changes", "message"),
    [
        ([shape("rectangle", points=SQUARE[::2])], {}, "a.json: 'dog' is a box without a mask"),
        ([shape(points=SQUARE[:2])], {}, "a.json: the points of a polygon 'dog' are not 3 or more"),
        ([shape(points=[[1, 2], [3]])], {}, "a.json: the points of a polygon 'dog' are not 3"),
        ([shape(points=[[1, 2], [3, 4], [5, float("nan")]])], {}, "'dog' are not all finite"),
        ([shape("rotation")], {}, "a.json: 'dog' is of kind 'rotation'; draw a polygon or mask"),
        ([shape(label="")], {}, "a.json: a shape has no 'label'"),
        (["x"], {}, "a.json: a shape has no 'label'"),
        ([shape("mask", mask="x")], {}, "a.json: the mask of 'dog' cannot be read"),
        (
            [shape("mask", points=[[39, 2], [40, 3]], mask=encoded(np.ones((2, 2), np.uint8)))],
            {},
            "the mask of 'dog' does not fit into the image",
        ),
        ([], {"imagePath": None}, "a.json has no 'imagePath'"),
        ([], {"imageWidth": None}, "a.json: imageWidth is None; it must be above 0"),
        ([], {"shapes": 3}, "a.json is not a file of labelme"),
    ],
)
def test_mistakes_name_the_file(convert, shapes, changes, message):
    with pytest.raises(UserError, match=message):
        convert(*shapes, **changes)


def test_all_mistakes_are_named_at_once(convert):
    with pytest.raises(UserError) as caught:
        convert(shape(points=SQUARE[:2]), shape("rectangle", label="cat", points=SQUARE[::2]))
    assert "polygon 'dog' are not 3" in str(caught.value)
    assert "'cat' is a box without a mask" in str(caught.value)


def test_pictures_without_a_file_are_counted(convert, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "b.png")
    content, (warning,) = convert(shape())
    assert len(content["images"]) == 1
    assert "left out 1 picture(s) without a file of labelme, such as 'b.png'" in warning


@pytest.mark.parametrize(
    ("labels", "pictures", "given", "expected"),
    [
        (["a.json", "cam1/a.json"], ["a.png", "cam1/a.png"], "a.png", ["a.png", "cam1/a.png"]),
        (["cam1/a.json"], ["a.png", "cam1/a.png"], "..\\cam1\\a.png", ["cam1/a.png"]),
        (["cam1/a.json"], ["a.png"], "a.png", ["a.png"]),  # all pictures in one folder
        (["a.json"], ["cam1/a.png"], "D:\\photos\\cam1\\a.png", ["cam1/a.png"]),
        (["cam1/a.json"], ["cam2/a.png"], "a.png", ["cam1/a.png"]),  # missing, not another one
    ],
)
def test_subfolders(labels, pictures, given, expected, tmp_path):
    content = {"imagePath": given, "imageWidth": 40, "imageHeight": 30, "shapes": [shape()]}
    for name in (*labels, *(f"images/{name}" for name in pictures)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for name in labels:
        (tmp_path / name).write_text(json.dumps(content))
    for name in pictures:
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / name)
    found, left_out = read_other("labelme", tmp_path, tmp_path / "images")
    assert [image["file_name"] for image in found["images"]] == expected
    without = sorted({*pictures} - {*expected})
    assert len(left_out) == bool(without)
    assert all(f"such as '{without[0]}'" in each for each in left_out)


def test_files_of_windows(convert, tmp_path):
    """Their UTF-8 may begin with a byte order mark."""
    convert(shape())
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    assert len(read_other("labelme", tmp_path, tmp_path)[0]["annotations"]) == 1


def test_other_json_is_passed_over(convert, tmp_path):
    (tmp_path / "train.json").write_text('{"images": []}')
    (tmp_path / "z.json").write_text("[]")
    with pytest.raises(UserError, match="z.json is not a file of labelme"):
        convert(shape())
    (tmp_path / "z.json").unlink()
    assert len(convert(shape())[0]["images"]) == 1
