import pytest
from detectron2.config import CfgNode

from msrcnn.config import get_msrcnn_cfg
from msrcnn.config_by_key import NO_EFFECT, changed, differences, flatten, value_of


@pytest.mark.parametrize("frozen", [False, True])
def test_changed_is_a_copy(frozen):
    cfg = get_msrcnn_cfg()
    if frozen:
        cfg.freeze()
    before = cfg.clone()
    other = changed(cfg, {"MODEL.ROI_HEADS.NUM_CLASSES": 3, "OUTPUT_DIR": "elsewhere"})
    assert cfg == before
    assert other.is_frozen() == cfg.is_frozen() == frozen
    assert value_of(other, "MODEL.ROI_HEADS.NUM_CLASSES") == 3
    assert set(differences(cfg, other, ())) == {"MODEL.ROI_HEADS.NUM_CLASSES", "OUTPUT_DIR"}


def test_a_key_that_does_not_exist_cannot_be_changed():
    with pytest.raises(KeyError, match="NOTHING"):
        changed(get_msrcnn_cfg(), {"MODEL.NOTHING.NAME": 3})


def test_differences():
    cfg = get_msrcnn_cfg()
    scaled = changed(cfg, {"SOLVER.BASE_LR": cfg.SOLVER.BASE_LR / 3 * 3 * (1 + 1e-15)})
    scaled.SOLVER.STEPS = list(cfg.SOLVER.STEPS)  # as in a file
    assert differences(cfg, scaled, ()) == {}
    slower = changed(cfg, {"SOLVER.BASE_LR": cfg.SOLVER.BASE_LR * 0.999, "OUTPUT_DIR": "b"})
    assert differences(cfg, slower, NO_EFFECT) == {
        "SOLVER.BASE_LR": [cfg.SOLVER.BASE_LR, slower.SOLVER.BASE_LR]
    }


def test_keys_that_only_one_config_has_are_differences():
    """In order, whatever the types of the values."""
    ours = CfgNode({"B": CfgNode({"X": 0.5, "Y": 1}), "Z": "same"})
    theirs = CfgNode({"A": 0.25, "B": CfgNode({"Y": 1.0}), "Z": "same"})
    found = differences(ours, theirs, ())
    assert found == {"A": [None, 0.25], "B.X": [0.5, None], "B.Y": [1, 1.0]}
    assert list(found) == ["A", "B.X", "B.Y"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        *((1.0, 1.0 + 0.9e-9, True), (1.0, 1.0 + 1.1e-9, False)),  # relative, below 1e-9
        *((-1e-6, -1e-6 * (1 + 1e-12), True), (-1e-6, -2e-6, False), (-1.0, 1.0, False)),
        *((0.0, 0.0, True), (0.0, 1e-30, False)),
    ],
)
def test_numbers_are_equal_up_to_rounding(one, other, equal):
    for ours, theirs in ((one, other), (other, one)):
        found = differences(CfgNode({"A": ours}), CfgNode({"A": theirs}), ())
        assert found == ({} if equal else {"A": [ours, theirs]})


def test_what_has_no_effect_on_a_result():
    cfg = get_msrcnn_cfg()
    elsewhere = {
        "OUTPUT_DIR": "elsewhere",
        "WANDB": "a project",
        "MODEL.DEVICE": "cuda:1",
        "DATALOADER.NUM_WORKERS": 7,
        "SOLVER.CHECKPOINT_PERIOD": 123,
        "SOLVER.REFERENCE_BATCH": 123,
        "DATASETS.CLASS_NAMES": ("a", "b"),
    }
    assert set(differences(cfg, changed(cfg, elsewhere), ())) == set(elsewhere)
    assert differences(cfg, changed(cfg, elsewhere), NO_EFFECT) == {}
    matter = {"SEED": 7, "MODEL.WEIGHTS": "w.pth", "DATASETS.TRAIN": ("a",), "SOLVER.MAX_ITER": 3}
    assert differences(cfg, changed(cfg, matter), NO_EFFECT).keys() == matter.keys()


def test_values_by_key():
    flat = flatten(get_msrcnn_cfg())
    assert flat["SOLVER.BASE_LR"] == 0.001
    assert "MODEL" not in flat
