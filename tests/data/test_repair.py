import copy
import json
import re
from pathlib import Path

import pytest
from changed_copy import changed_copy
from PIL import Image

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.repair import repaired
from msrcnn.errors import UserError

SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]
VALID = {
    "info": {"year": 2026},
    "images": [
        {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
        {"id": 8, "file_name": "b.png", "width": 20, "height": 10},
    ],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {
            "id": i,
            "image_id": 7 + i % 2,
            "category_id": 3,
            "bbox": [1, 1, 8, 8],
            "segmentation": SQUARE,
            "iscrowd": 0,
            "area": 64,
        }
        for i in range(1, 7)
    ],
}
NAN, ANNOTATION = float("nan"), ("annotations", 0)


@pytest.fixture
def images(tmp_path):
    for name in "ab":
        Image.new("RGB", (20, 10)).save(tmp_path / f"{name}.png")
    return tmp_path


def changed(path, value):
    return changed_copy(VALID, path, value)


def test_what_is_sound_is_not_changed(images):
    assert repaired(VALID, images) == (VALID, [])


FIXED = [  # as it is, as it should be, and the line about it
    (("annotations", 1, "id"), 1, 7, "annotation 1: id 1 is 7 now"),
    ((*ANNOTATION, "id"), ..., 7, "annotation at index 0: id null is 7 now"),
    ((*ANNOTATION, "id"), "x", 7, "annotation 'x': id 'x' is 7 now"),
    ((*ANNOTATION, "id"), -1, 7, "annotation -1: id -1 is 7 now"),
    ((*ANNOTATION, "category_id"), "3", 3, "category_id '3' is 3 now"),
    ((*ANNOTATION, "image_id"), 8.0, 8, "image_id 8.0 is 8 now"),
    ((*ANNOTATION, "iscrowd"), "0", 0, "iscrowd '0' is 0 now"),
    ((*ANNOTATION, "iscrowd"), False, 0, "iscrowd False is 0 now"),
    ((*ANNOTATION, "iscrowd"), ..., 0, "iscrowd is 0"),
    ((*ANNOTATION, "area"), ..., 64.0, "area .* is 64 now, that of its mask"),
    ((*ANNOTATION, "area"), -5, 64.0, "area -5 is 64 now, that of its mask"),
    ((*ANNOTATION, "area"), 0, 64.0, "area 0 is 64 now, that of its mask"),
    ((*ANNOTATION, "area"), 1e300, 64.0, "area .* is 64 now, that of its mask"),
    ((*ANNOTATION, "area"), NAN, 64.0, "area .* is 64 now, that of its mask"),
    ((*ANNOTATION, "bbox"), [NAN, 1, 8, 8], [1, 1, 8, 8], "bbox .* now, around its mask"),
    ((*ANNOTATION, "bbox"), [1, 1, 8, 0], [1, 1, 8, 8], "bbox .* now, around its mask"),
    ((*ANNOTATION, "bbox"), ..., [1, 1, 8, 8], "bbox null is .* now, around its mask"),
    ((*ANNOTATION, "bbox"), [0, 0, 1, 1], [1, 1, 8, 8], "bbox .* now, around its mask"),
    ((*ANNOTATION, "bbox"), ["1", 1, 8, 8], [1, 1, 8, 8], "bbox .* is .1, 1, 8, 8. now"),
    ((*ANNOTATION, "segmentation"), [["1", *SQUARE[0][1:]]], SQUARE, "segmentation .* now"),
    ((*ANNOTATION, "segmentation"), [[1, 1, 9, 9], *SQUARE, []], SQUARE, "1: 2 polygon.* removed"),
    (("images", 0, "width"), "20", 20, "image 7: width '20' is 20 now"),
    (("images", 0, "height"), ..., 10, "image 7: 20 x null is 20 x 10 now, as in its file"),
    (("categories", 0, "name"), 7, "7", "category 3: name 7 is '7' now"),
]


@pytest.mark.parametrize(("path", "value", "expected", "message"), FIXED)
def test_value_is_fixed_and_said(images, path, value, expected, message):
    content = changed(path, value)
    before = repr(content)
    found, changes = repaired(content, images)
    assert repr(content) == before  # the input stays as it is
    assert found == changed(path, expected)
    (change,) = changes
    assert re.search(message, change)
    assert check_coco(found, images) == []


REMOVED = [
    ((*ANNOTATION, "segmentation"), [[1, 1, 9, 9]], 5, 2),
    ((*ANNOTATION, "segmentation"), [[]], 5, 2),
    ((*ANNOTATION, "image_id"), 9, 5, 2),
    ((*ANNOTATION, "category_id"), [3], 5, 2),
    ((*ANNOTATION, "segmentation"), [[50, 50, 60, 50, 60, 60]], 5, 2),
    ((*ANNOTATION, "segmentation"), {"size": [10, 20], "counts": [200]}, 5, 2),
    (("annotations", 0), None, 5, 2),
    (("images", 0, "file_name"), "gone.png", 3, 1),
    (("images", 0, "file_name"), None, 3, 1),
]


@pytest.mark.parametrize(("path", "value", "annotations", "number"), REMOVED)
def test_records_that_nothing_can_be_done_with_are_removed(
    images, path, value, annotations, number
):
    found, changes = repaired(changed(path, value), images)
    assert (len(found["annotations"]), len(found["images"])) == (annotations, number)
    assert all("is removed: " in change for change in changes)
    assert len(changes) == 6 - annotations + 2 - number
    assert check_coco(found, images) == []


def test_polygons_that_are_boxes_stay(images):
    """Somebody may know how to read them."""
    content = copy.deepcopy(VALID)
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[1, 1, 9, 9]]
    assert repaired(content, images) == (content, [])


def test_an_area_that_fits_stays(images):
    content = changed((*ANNOTATION, "area"), 60)  # of an outline, which is not that of its pixels
    assert repaired(content, images) == (content, [])
    content = changed((*ANNOTATION, "segmentation"), [[1, 1, 1, 1, 1, 1]])
    content["annotations"][0].update(area=0, bbox=[1, 1, 0.2, 0.2])
    assert repaired(content, images) == (content, [])


def test_a_removed_image_is_named_by_its_file(images):
    _, changes = repaired(changed(("images", 0, "file_name"), "gone.png"), images)
    assert "('gone.png') is removed: its file cannot be read" in changes[0]


def two_images_of_an_id(number):
    """The content with three images, of which two share an id and one has no annotation."""
    content = changed_copy(VALID, ("images", 0, "id"), number)
    first, second = content["images"]
    content["images"] = [first, {**second, "id": number}, {**second, "id": 9}]
    for annotation in content["annotations"]:
        annotation["image_id"] = number
    return content


@pytest.mark.parametrize("changes", [{}, {"file_name": "gone.png"}, {"width": None}])
@pytest.mark.parametrize("index", [0, 1])
def test_images_of_one_id_cannot_be_told_apart(images, index, changes):
    """Their annotations may be those of the other: none is removed, and no size is taken over."""
    Image.new("RGB", (6, 4)).save(images / "b.png")
    content = two_images_of_an_id(7)
    for each in content["images"][1:]:
        each.update(width=6, height=4)
    content["annotations"][0].update(segmentation=[[11, 1, 19, 1, 19, 9]], bbox=[11, 1, 8, 8])
    content["images"][index] |= changes
    found, _ = repaired(content, images)
    assert found["annotations"] == content["annotations"]
    assert [each["id"] for each in found["images"]] == [7, 7, 9]
    sizes = [(each["width"], each["height"]) for each in found["images"]]
    assert sizes == [(20, 10), (6, 4), (6, 4)]
    assert check_coco(found, images)[0].messages == [
        "image id 7 is used more than once; give each its own"
    ]


def test_images_of_one_text_as_id_cannot_be_told_apart_either(images):
    found, _ = repaired(two_images_of_an_id("x"), images)
    assert [each["id"] for each in found["images"]] == [10, 10, 9]
    assert {each["image_id"] for each in found["annotations"]} == {10}
    found, _ = repaired(two_images_of_an_id(None), images)
    assert [each["id"] for each in found["images"]] == [10, 11, 9]
    assert found["annotations"] == []  # null refers to none of them
    content = two_images_of_an_id(None)
    del content["images"][1]
    assert {each["image_id"] for each in repaired(content, images)[0]["annotations"]} == {10}


def test_a_wrong_folder_is_named_instead_of_removing_all_images(images):
    content = changed(("annotations", 0, "area"), ...)
    found, changes = repaired(content, images / "wrong")
    assert changes == ["annotation 1: area null is 64 now, that of its mask"]
    assert (found["images"], len(found["annotations"])) == (VALID["images"], 6)
    (finding,) = check_coco(found, images / "wrong")
    assert (
        "wrong/a.png' does not exist; fix its 'file_name' or the image dir" in finding.messages[0]
    )
    content = changed(("images", 0, "width"), ...)
    assert repaired(content, images / "wrong") == (content, [])


@pytest.mark.filterwarnings("error")
def test_a_file_without_images_is_repaired(images):
    assert repaired(changed(("images",), []), images)[0]["annotations"] == []


def test_a_number_as_file_name_is_a_text_if_the_file_exists(images):
    content = changed(("images", 0, "file_name"), 7)
    found, changes = repaired(content, images)
    assert (found, changes) == (content, [])  # it may be that of 7.png
    Image.new("RGB", (20, 10)).save(images / "7", format="PNG")
    found, changes = repaired(content, images)
    assert changes == ["image 7: file_name 7 is '7' now"]
    assert check_coco(found, images) == []


def test_ids_that_are_texts_become_numbers_everywhere(images):
    content = copy.deepcopy(VALID)
    for image, new in zip(content["images"], ("img1", "8")):
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                annotation["image_id"] = new
        image["id"] = new
    found, _ = repaired(content, images)
    assert check_coco(found, images) == []
    names = {image["id"]: image["file_name"] for image in found["images"]}
    expected = ["b.png", "a.png"] * 3
    assert [names[each["image_id"]] for each in found["annotations"]] == expected


def test_fractions_are_multiplied(images):
    content = copy.deepcopy(VALID)
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[0.1, 0.2, 0.5, 0.2, 0.5, 0.8]]
        annotation["bbox"] = [0.1, 0.2, 0.4, 0.6]
    found, _ = repaired(content, images)
    assert found["annotations"][0]["segmentation"][0] == pytest.approx([2, 2, 10, 2, 10, 8])
    assert found["annotations"][0]["bbox"] == pytest.approx([2, 2, 8, 6])
    assert check_coco(found, images) == []


def test_a_mask_of_one_pixel_is_no_fraction(images):
    content = copy.deepcopy(VALID)
    first = content["annotations"][0]
    first["segmentation"] = [[0.1, 0.2, 0.5, 0.2, 0.5, 0.8]]
    pixel = {"size": [10, 20], "counts": [0, 1, 199]}
    content["annotations"] = [
        first,
        {**first, "id": 7, "segmentation": pixel, "bbox": [0, 0, 1, 1]},
    ]
    found, _ = repaired(content, images)
    assert found["annotations"][0]["segmentation"][0] == pytest.approx([2, 2, 10, 2, 10, 8])
    assert found["annotations"][1]["segmentation"] == pixel


def test_swapped_size_is_that_of_the_file_but_not_of_an_image_that_is_turned(images):
    content = changed(("images", 0, "width"), 10)
    content["images"][0]["height"] = 20
    assert repaired(content, images)[0]["images"] == VALID["images"]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(images / "a.png", exif=exif)
    assert repaired(VALID, images) == (VALID, [])  # the masks would have to be turned, too


def test_annotations_made_for_other_images_stay(images):
    """To remove nearly all of them would hide the cause."""
    content = copy.deepcopy(VALID)
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[50, 50, 60, 50, 60, 60]]
        annotation["bbox"] = [50, 50, 10, 10]
    assert len(repaired(content, images)[0]["annotations"]) == 6


def test_what_cannot_be_fixed_remains(images):
    content = changed((*ANNOTATION, "segmentation"), [[NAN, 1, 9, 1, 9, 9]])
    found, changes = repaired(content, images)
    assert changes == []
    assert check_coco(found, images)[0].stops
    deep = "[" * 600 + "]" * 600  # as deep as a file may be read
    for content in (
        [],
        {"images": []},
        {**VALID, "annotations": 3},
        changed((*ANNOTATION, "segmentation"), json.loads(deep)),
    ):
        with pytest.raises(UserError, match="cannot be fixed"):
            repaired(content, images)


def test_test_sets_have_no_annotations_afterwards(images):
    found, _ = repaired(changed(("annotations",), ...), images)
    assert "annotations" not in found


CASES = Path(__file__).parents[3] / "shared" / "cases"
FIXED = (
    *("bbox_nan_xy", "bbox_xyxy", "cat_id_list", "crowd_string", "dup_ann_ids", "empty_png"),
    *("filename_null", "int_cat_name", "part_crowd_string", "poly_outside_only", "poly_strings"),
    *("rle_all_zero", "size_string", "size_swapped", "string_cat_ids", "string_image_ids"),
    "trunc_png",
)


@pytest.mark.parametrize("case", FIXED)
def test_reported_cases_are_fixed(case):
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    content = json.loads((CASES / case / "ann.json").read_text())
    folder = CASES / case / "img"
    folder = folder if folder.is_dir() else CASES / "base" / "img"
    found, changes = repaired(content, folder)
    assert changes
    assert not any(finding.stops for finding in check_coco(found, folder))
    assert repaired(found, folder) == (found, [])


def test_boxes_that_fit_by_chance_are_fixed_with_the_others():
    """Of boxes given as corners, one fits its mask as a box of another size."""
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    content = json.loads((CASES / "bbox_xyxy" / "ann.json").read_text())
    found, changes = repaired(content, CASES / "base" / "img")
    sound = json.loads((CASES / "base" / "ann.json").read_text())
    assert len(changes) == len(sound["annotations"])
    for fixed, original in zip(found["annotations"], sound["annotations"]):
        assert fixed["bbox"] == pytest.approx(original["bbox"], abs=1)
