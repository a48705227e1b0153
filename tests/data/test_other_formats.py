import json
from pathlib import Path
from xml.etree import ElementTree

import hotcoco
import pytest

from msrcnn.data.coco_rules import check_coco
from msrcnn.data.other_formats import read_other
from msrcnn.errors import UserError


@pytest.fixture
def content(shapes_root):
    """Shapes whose masks are all polygons, as in the other formats."""
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    content["annotations"] = [
        a for a in content["annotations"] if isinstance(a["segmentation"], list)
    ]
    return content


def test_polygons_of_cvat(content, shapes_root, tmp_path):
    hotcoco.COCO(content).to_cvat(str(tmp_path / "a.xml"))
    found, left_out = read_other("cvat", tmp_path / "a.xml", shapes_root / "val")
    assert left_out == []
    assert check_coco(found, shapes_root / "val") == []
    assert len(found["images"]) == len(content["images"])
    polygons = sum(len(a["segmentation"]) for a in content["annotations"])
    assert sum(len(a["segmentation"]) for a in found["annotations"]) == polygons


def test_groups_of_cvat_are_told(content, shapes_root, tmp_path):
    """Parts of one object would otherwise be objects of their own in silence."""
    path = tmp_path / "a.xml"
    hotcoco.COCO(content).to_cvat(str(path))
    tree = ElementTree.parse(path)
    images = [list(image.iter("polygon")) for image in tree.getroot().iter("image")]
    together, other = [polygons for polygons in images if len(polygons) > 1][:2]
    for polygon in (*together, other[0]):  # a group of one is an object
        polygon.set("group_id", "3")
    other[1].set("group_id", "0")  # none
    tree.write(path)
    _, (warning,) = read_other("cvat", path, shapes_root / "val")
    assert "the shapes of 1 group(s) become objects of their own" in warning


def test_masks_of_cvat_are_told(content, shapes_root, tmp_path):
    """Those of its brush are not polygons; hotcoco only counts shapes that it does not support."""
    path = tmp_path / "a.xml"
    hotcoco.COCO(content).to_cvat(str(path))
    tree = ElementTree.parse(path)
    image = next(tree.getroot().iter("image"))
    where = {"left": "1", "top": "1", "width": "2", "height": "2"}
    ElementTree.SubElement(image, "mask", {"label": "disc", "rle": "0, 4", **where})
    ElementTree.SubElement(image, "polyline", {"label": "disc", "points": "1,1;5,5"})
    tree.write(path)
    _, warned = read_other("cvat", path, shapes_root / "val")
    assert any("left out 1 mask(s) and ellipse(s), so that their" in each for each in warned)


def test_boxes_are_refused(content, shapes_root, tmp_path):
    hotcoco.COCO(content).to_yolo(str(tmp_path / "out"))
    with pytest.raises(UserError, match="annotations are boxes without a mask"):
        read_other("yolo", tmp_path / "out", shapes_root / "val")


def test_what_is_damaged(tmp_path):
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        read_other("cvat", Path("nowhere"), tmp_path)
    (tmp_path / "a.xml").write_text("no XML")
    with pytest.raises(UserError, match=r"a\.xml' cannot be read as cvat"):
        read_other("cvat", tmp_path / "a.xml", tmp_path)
    with pytest.raises(UserError, match=r"there is no data\.yaml"):
        read_other("yolo", tmp_path, tmp_path)
