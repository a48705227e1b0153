"""A checkpoint of another model or optimizer is refused before anything is written."""

import pytest
from training_process import register, run_cfg

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.engine import Trainer, run
from msrcnn.engine.resume_check import _difference_of_parameters, check_resume
from msrcnn.errors import UserError


@pytest.fixture(scope="module")
def folder(shapes_root, tmp_path_factory):
    """The output folder of a run with a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    register(shapes_root)
    trainer = Trainer(run_cfg(shapes_root, folder))
    trainer.iter = 0
    trainer.checkpointer.save("model_0000000", iteration=0)
    return folder


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_HEADS.NUM_CLASSES", 3, "6 classes in the file, 3 in the model"),
        ("MODEL.RESNETS.DEPTH", 34, "not in the file: backbone.bottom_up.res2.2.conv1"),
        ("MODEL.MASKIOU_ON", False, "not in the model: MaskIoU head"),
        ("MODEL.ROI_MASKIOU_HEAD.INPUT", "multiply", "maskiou_fcn1.weight is "),
        ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True, "in the file, class-agnostic in the"),
        ("SOLVER.OPTIMIZER", "sgd", "its SOLVER.OPTIMIZER is 'adamw', not 'sgd'"),
        ("SOLVER.BASE_LR", 0.5, "its SOLVER.BASE_LR is .*, not 0.5"),
        ("SOLVER.WEIGHT_DECAY", 0.5, "its SOLVER.WEIGHT_DECAY is .*, not 0.5"),
        ("SOLVER.TRAIN_ONLY", ("maskiou_head",), "only one of them .SOLVER.TRAIN_ONLY"),
        ("SOLVER.BIAS_LR_FACTOR", 2.0, "its SOLVER.BIAS_LR_FACTOR is 1.0, not 2.0"),
        # Norms are a group of their own, whatever its decay.
        ("SOLVER.WEIGHT_DECAY_NORM", 0.5, "its SOLVER.WEIGHT_DECAY_NORM is 0.0, not 0.5"),
        ("SOLVER.WEIGHT_DECAY_BIAS", 0.5, "its SOLVER.WEIGHT_DECAY_BIAS is None, not 0.5"),
        ("MODEL.RESNETS.STRIDE_IN_1X1", True, "STRIDE_IN_1X1 is False, not True"),
    ],
)
def test_other_model_or_optimizer_is_refused(folder, shapes_root, key, value, message):
    files = sorted(folder.iterdir())
    with pytest.raises(UserError, match=f"cannot resume.*{message}.*new OUTPUT_DIR"):
        run(run_cfg(shapes_root, folder, **{key: value}), resume=True)
    assert sorted(folder.iterdir()) == files  # refused before anything is written


@pytest.mark.usefixtures("old_pytorch")
def test_the_same_run_is_accepted(folder, shapes_root):
    check_resume(run_cfg(shapes_root, folder, **{"SOLVER.MAX_ITER": 20}))


def test_other_groups_of_the_optimizer_are_refused():
    before, now = [["a"], ["b"]], [["a", "b"]]
    assert "other groups of parameters" in _difference_of_parameters(before, now)


def test_weights_without_training_state_are_refused(tmp_path, shapes_root, build):
    cfg = run_cfg(shapes_root, tmp_path)
    MaskScoringCheckpointer(build(cfg), str(tmp_path)).save("model_final")
    with pytest.raises(UserError, match="holds only weights"):
        check_resume(cfg)
