import pytest

from msrcnn.checkpoint.checkpoint_files import resumable_checkpoints
from msrcnn.engine import prepare_config, prepare_model_config
from msrcnn.errors import UserError

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"
BOTH = ("TRAIN", "TEST")


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["DATASETS.TRAIN", "('coco_2017',)"], "no dataset 'coco_2017' is registered; nearest: "),
        (["DATASETS.TRAIN", "('lvis_v1_train',)"], "lvis_v1_train.json' does not exist"),
        (["MODEL.ROI_HEADS.NAME", "Nonsense"], "ROI_HEADS.NAME is 'Nonsense'; allowed"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "Nonsense"], "INPUT is 'Nonsense'; allowed"),
        (["SOLVER.LR", "1"], "command line: .*SOLVER.LR"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(opts, message, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        prepare_config(SMOKE, ["OUTPUT_DIR", str(output), *opts], splits=BOTH)
    assert not output.exists()


def test_heads_are_selected_by_the_config():
    cfg = prepare_config(SMOKE, ["MODEL.ROI_HEADS.NMS_TYPE", "soft_linear"])
    assert cfg.MODEL.ROI_HEADS.NAME == "MaskScoringROIHeads"
    assert not cfg.is_frozen()


def test_only_used_splits_must_exist(shapes_root):
    annotations = shapes_root / "annotations" / "instances_val.json"
    opts = ["DATASETS.TRAIN", "('nowhere',)"]
    val = f"{annotations}:{shapes_root}/val"
    assert len(prepare_config(SMOKE, opts, val_data=[val], splits=("TEST",)).DATASETS.TEST) == 1
    with pytest.raises(UserError, match="no dataset 'nowhere'"):
        prepare_config(SMOKE, opts, val_data=[val], splits=BOTH)


def test_missing_weights():
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS '/no\.pth': no such file"):
        prepare_config(SMOKE, ["MODEL.WEIGHTS", "/no.pth"])


def test_weights_of_an_unknown_model():
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_4x"
    with pytest.raises(UserError, match=f"MODEL.WEIGHTS '{name}': no such file, nor .*FPN_3x"):
        prepare_config(SMOKE, ["MODEL.WEIGHTS", name])


def test_resuming_does_not_need_the_initial_weights(tmp_path):
    """``MODEL.WEIGHTS`` may be gone, because training resumes from the checkpoint."""
    opts = ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "/no.pth"]
    with pytest.raises(UserError, match="no such file"):
        prepare_config(SMOKE, opts, resume=True)
    (tmp_path / "model_0000001.pth").write_bytes(b"")
    assert resumable_checkpoints(tmp_path)
    prepare_config(SMOKE, opts, resume=True)


def test_config_of_a_trained_model(tmp_path):
    weights = tmp_path / "model.pth"
    weights.write_bytes(b"")
    with pytest.raises(UserError, match="give --config-file: there is no"):
        prepare_model_config(str(weights))
    cfg = prepare_config(SMOKE)
    (tmp_path / "model.yaml").write_text(cfg.dump())
    found = prepare_model_config(str(weights))
    assert found.is_frozen()
    assert str(weights) == found.MODEL.WEIGHTS
    assert found.MODEL.ROI_HEADS.NUM_CLASSES == 6


def test_a_number_of_classes_that_the_data_contradict(shapes_root):
    """The classes follow from custom data: another number on the command line is a mistake."""
    data = [f"{shapes_root}/annotations/instances_train.json:{shapes_root}/train"]
    number = "MODEL.ROI_HEADS.NUM_CLASSES"
    with pytest.raises(UserError, match=rf"{number} is 5, but .* 6 classes \(disc, .*leave it out"):
        prepare_config(SMOKE, [number, "5"], train_data=data, splits=("TRAIN",))
    prepare_config(SMOKE, [number, "6"], train_data=data, splits=("TRAIN",))
