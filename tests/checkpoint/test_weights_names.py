import pytest
from detectron2 import model_zoo

from msrcnn.checkpoint import resolve_weights
from msrcnn.errors import UserError

ZOO = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"


@pytest.mark.parametrize("name", [ZOO, f"{ZOO}.yaml", "Misc/cascade_mask_rcnn_R_50_FPN_3x.yaml"])
def test_config_of_the_model_zoo(name):
    url = resolve_weights(name)
    assert url == model_zoo.get_checkpoint_url(name)
    assert url.startswith("https://")
    assert url.endswith(".pkl")


@pytest.mark.parametrize("name", ["detectron2://ImageNetPretrained/MSRA/R-50.pkl", "https://a/b"])
def test_url_is_unchanged(name):
    assert resolve_weights(name) == name


def test_file_takes_precedence_over_model_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ZOO).parent.mkdir()
    (tmp_path / ZOO).write_text("")
    assert resolve_weights(ZOO) == ZOO


@pytest.mark.parametrize(
    "name",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R50_FPN_3x",
        "COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_3x.yaml",
        "mask_rcnn_R_50_FPN_3x.yaml",
    ],
)
def test_unknown_model_suggests_the_nearest(name):
    with pytest.raises(UserError, match=f"'{name}': no such file, nor .* nearest: .*{ZOO}"):
        resolve_weights(name)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth': no such file$"):
        resolve_weights(str(tmp_path / "nowhere.pth"))
