import pytest

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
    with pytest.raises(KeyError):
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


def test_values_by_key():
    flat = flatten(get_msrcnn_cfg())
    assert flat["SOLVER.BASE_LR"] == 0.001
    assert "MODEL" not in flat
