from pathlib import Path

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


def test_name_of_lvis_images():
    """Same as in Detectron2, where the image folder contains train2017 and val2017."""
    info = {"id": 1, "coco_url": "http://images.cocodataset.org/val2017/000000397133.jpg"}
    assert image_name(info) == "val2017/000000397133.jpg"


def test_error_names_the_image(tmp_path):
    with pytest.raises(UserError, match=r"cannot read image '.*a\.png': .*No such file"):
        load_image(INFO, tmp_path)
    Image.new("RGB", (10, 20)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png' has 10 x 20 pixels, but is annotated as 20 x 10"):
        load_image(INFO, tmp_path)


def test_whole_paths_of_a_python_function_are_read(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    assert load_image({**INFO, "file_name": str(tmp_path / "a.png")}, Path()).shape == (10, 20, 3)


@pytest.mark.parametrize("name", ["../secret.png", "{}/secret.png", "..\\secret.png"])
@pytest.mark.parametrize("key", ["file_name", "coco_url"])
def test_file_outside_of_the_folder_is_not_read(tmp_path, name, key):
    Image.new("RGB", (20, 10)).save(tmp_path / "secret.png")
    info = {"id": 7, "width": 20, "height": 10, key: name.format(tmp_path)}
    if key == "coco_url" and name.startswith("{}"):
        info[key] = "https://host//secret.png"
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="of image 7 leads out of '.*images': give the folder"):
        load_image(info, tmp_path / "images")
