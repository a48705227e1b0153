import pytest
from PIL import Image

from msrcnn.errors import UserError
from msrcnn.visualization.images import image_name, load_image

INFO = {"id": 1, "width": 20, "height": 10, "file_name": "a.png"}


def test_load(tmp_path):
    Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "a.png")
    pixels = load_image(INFO, tmp_path)
    assert pixels.shape == (10, 20, 3)
    assert pixels[0, 0].tolist() == [1, 2, 3]


def test_lvis_has_an_address_for_a_name():
    """Detectron2's rule, where the folder of images is that of train2017 and val2017."""
    info = {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg"}
    assert image_name(info) == "val2017/000000397133.jpg"


def test_message_names_the_image(tmp_path):
    with pytest.raises(UserError, match=r"cannot read image '.*a\.png': .*No such file"):
        load_image(INFO, tmp_path)
    Image.new("RGB", (10, 20)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png' has 10 x 20 pixels, .* 20 x 10"):
        load_image(INFO, tmp_path)
