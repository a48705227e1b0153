import copy
import re

import pytest

from msrcnn.data.coco_format import check_coco, mask_format

POLYGON = [[1, 1, 9, 1, 9, 9]]
VALID = {
    "images": [{"id": 7, "file_name": "a.jpg", "width": 20, "height": 10}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 3, "bbox": [1, 1, 8, 8], "segmentation": POLYGON}
    ],
}


@pytest.fixture
def images(tmp_path):
    (tmp_path / "a.jpg").touch()
    return tmp_path


def changed(path, value):
    content = copy.deepcopy(VALID)
    *keys, last = path
    record = content
    for key in keys:
        record = record[key]
    if value is None:
        del record[last]
    else:
        record[last] = value
    return content


def test_valid_file(images):
    assert check_coco(VALID, images) == []


ANNOTATION = ("annotations", 0)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("annotations",), None, "'annotations' is missing or is not a list"),
        (("categories",), [], "'categories' is empty"),
        (("images",), [1], "image at index 0 is not a JSON object"),
        (("images", 0, "height"), None, "image 7 has no 'height'"),
        (("images", 0, "file_name"), "b.jpg", "image 7: .*b.jpg' does not exist"),
        (("images",), VALID["images"] * 2, "image id 7 is used more than once"),
        (("categories", 0, "name"), None, "category 3 has no 'name'"),
        ((*ANNOTATION, "segmentation"), None, "annotation 5 has no 'segmentation'"),
        ((*ANNOTATION, "id"), None, "annotation at index 0 has no 'id'"),
        ((*ANNOTATION, "image_id"), 8, "annotation 5: image_id 8 is not the id of an image"),
        (
            (*ANNOTATION, "category_id"),
            0,
            "annotation 5: category_id 0 is not the id of a category",
        ),
        (
            (*ANNOTATION, "bbox"),
            [1, 1, 0, 8],
            "annotation 5: bbox .* with a width and height above 0",
        ),
        ((*ANNOTATION, "bbox"), "1 1 8 8", "annotation 5: bbox"),
        ((*ANNOTATION, "segmentation"), [], "must be a nonempty list of polygons or an RLE"),
        ((*ANNOTATION, "segmentation"), [[1, 1, 9, 9]], "with at least three points"),
        ((*ANNOTATION, "segmentation"), {"size": [10, 20]}, "must have both 'counts' and 'size'"),
        (
            (*ANNOTATION, "segmentation"),
            {"size": [20, 10], "counts": [0]},
            r"size \[20, 10\], but its image has size \[10, 20\] \(height, width\)",
        ),
    ],
)
def test_problem_is_named_with_its_record(images, path, value, message):
    (problem,) = check_coco(changed(path, value), images)
    assert re.search(message, problem)


def test_mask_format():
    assert mask_format(VALID) == "polygon"
    rle = {"size": [10, 20], "counts": [0, 200]}
    with_rle = changed((*ANNOTATION, "segmentation"), rle)
    assert mask_format(with_rle) == "bitmask"
    with_rle["annotations"][0]["iscrowd"] = 1
    assert mask_format(with_rle) == "polygon"  # crowd regions are not used for training
