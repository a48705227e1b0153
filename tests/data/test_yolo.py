import warnings

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.other_formats import read_other
from msrcnn.errors import UserError

TRIANGLE = "1 0.25 0.2 0.75 0.2 0.5 0.8"


@pytest.fixture
def convert(tmp_path):
    """Writes a dataset in the layout of Ultralytics, and reads it."""
    images, labels = tmp_path / "images" / "train", tmp_path / "labels" / "train"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(images / "a.png")
    (tmp_path / "data.yaml").write_text("names: {0: cat, 1: dog}\n")

    def run(*lines, name="a"):
        (labels / f"{name}.txt").write_text("\n".join(lines))
        return read_other("yolo", labels, images)

    run.images, run.classes = images, tmp_path / "data.yaml"
    return run


def test_polygons(convert):
    content, warned = convert(TRIANGLE, "", "0 0 0 1 0 1 1 0 1")
    assert warned == []
    assert check_coco(content, convert.images) == []
    assert content["images"] == [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}]
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    dog, cat = content["annotations"]
    assert (dog["category_id"], dog["segmentation"]) == (2, [[10, 6, 30, 6, 20, 24]])
    assert dog["bbox"] == [10, 6, 20, 18]
    (rle,) = mask_util.frPyObjects(dog["segmentation"], 30, 40)
    assert dog["area"] == mask_util.area(rle)
    assert (cat["category_id"], cat["area"]) == (1, 40 * 30)


def test_subfolders(convert):
    """Images of the same name in two of them have labels of their own."""
    for folder in ("cam1", "cam2", "cam3"):
        (convert.images / folder).mkdir()
        Image.new("RGB", (40, 30)).save(convert.images / folder / "a.jpg")
    labels = convert.classes.parent / "labels" / "train"
    (labels / "cam1").mkdir()
    (labels / "cam2").mkdir()
    (labels / "cam2" / "a.txt").write_text("0 0 0 1 0 1 1\n0 0 0 1 0 1 1 0 1")
    content, (warning,) = convert(TRIANGLE, name="cam1/a")
    assert [i["file_name"] for i in content["images"]] == [
        *("a.png", "cam1/a.jpg", "cam2/a.jpg", "cam3/a.jpg")
    ]
    assert [a["image_id"] for a in content["annotations"]] == [2, 3, 3]
    assert "2 image(s) without a label file, such as 'a.png'" in warning
    assert check_coco(content, convert.images) == []
    (labels / "cam4").mkdir()
    with pytest.raises(UserError, match=r"cam4/b\.txt has no image"):
        convert(TRIANGLE, name="cam4/b")


def test_rounded_coordinates_end_at_the_border(convert):
    content, warned = convert("0 -0.000001 0 1.0000001 0 1 1.0004 0 1")
    assert warned == []
    assert content["annotations"][0]["segmentation"] == [[0, 0, 40, 0, 40, 30, 0, 30]]
    with pytest.raises(UserError, match="coordinates are not between 0 and 1"):
        convert("0 0 0 1.002 0 1 1 0 1")


def test_turned_photos(convert):
    """Coordinates are those of the image as it is shown."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (40, 30)).save(convert.images / "b.jpg", exif=turned)
    convert(TRIANGLE)
    content, _ = convert("0 0 0 1 0 1 1 0 1", name="b")
    assert [image["width"] for image in content["images"]] == [40, 30]
    corners = np.reshape(content["annotations"][1]["segmentation"], (-1, 2))
    assert corners.max(0).tolist() == [30, 40]
    assert check_coco(content, convert.images) == []


def test_images_without_labels_have_no_objects(convert):
    Image.new("RGB", (40, 30)).save(convert.images / "b.png")
    content, (warning,) = convert(TRIANGLE)
    assert len(content["images"]) == 2
    assert "1 image(s) without a label file, such as 'b.png', count as" in warning


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.1 0.2 0.2 0.3", r"a\.txt, line 2: 5 coordinates are not 3 or more points"),
        ("0 0.1 0.1", r"a\.txt, line 2: 2 coordinates are not 3 or more points"),
        ("2 0 0 1 0 1 1", r"a\.txt, line 2: class 2 is not one of the 2 in data\.yaml, from 0"),
        ("-1 0 0 1 0 1 1", "line 2: class -1 is not"),
        ("0.5 0 0 1 0 1 1", "line 2: class 0.5 is not"),
        ("0 10 12 30 12 20 25", r"a\.txt, line 2: coordinates are not between 0 and 1"),
        ("0 nan 0 1 0 1 1", "line 2: coordinates are not between 0 and 1"),
        ("dog 0 0 1 0 1 1", r"a\.txt, line 2: could not convert string to float: 'dog'"),
        ("0 0.5 0.5 0.2 0.2", "1 of 2 annotations are boxes without a mask"),
    ],
)
def test_mistakes_name_file_and_line(convert, line, message):
    with pytest.raises(UserError, match=message):
        convert(TRIANGLE, line)


def test_files_of_windows(convert):
    """Their UTF-8 may begin with a byte order mark."""
    content, _ = convert(f"\ufeff{TRIANGLE}")
    assert len(content["annotations"]) == 1


def test_labels_without_an_image(convert):
    with pytest.raises(UserError, match=r"b\.txt has no image"):
        convert(TRIANGLE, name="b")


def test_damaged_image(convert):
    (convert.images / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png cannot be read: cannot identify"):
        convert(TRIANGLE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: [cat, cat]", "not a list of different class names"),
        ("names: []", "not a list of different class names"),
        ("names: {1: cat}", "has no list of class 'names', in order from 0"),
        ("names: {0: cat, 1: dog, 0: bird}", "line 1: '0' occurs twice"),
        ("nc: 2", "has no list of class 'names'"),
        ("names: [", "cannot be read: .*line 1: while parsing"),
        ("", "cannot be read: .*has no keys with values"),
        ("names: " + "[" * 3000 + "]" * 3000, "cannot be read: maximum recursion"),
    ],
)
def test_class_names_that_cannot_be_used(convert, content, message):
    convert.classes.write_text(content)
    with pytest.raises(UserError, match=rf"data\.yaml.*{message}"):
        convert(TRIANGLE)


def test_class_names_as_a_list(convert):
    convert.classes.write_text("names: [cat, 7]")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content, _ = convert(TRIANGLE)
    assert [each["name"] for each in content["categories"]] == ["cat", "7"]
