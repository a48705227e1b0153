"""A training that starts in the output folder of an earlier one does not mix with it."""

import json
import sys
from pathlib import Path

import pytest
from detectron2.utils import comm
from training_process import register, run_cfg

from msrcnn.checkpoint.checkpoint_files import resumable_checkpoints
from msrcnn.engine import run
from msrcnn.engine.earlier_run import refuse_training_folder, set_aside_earlier_run
from msrcnn.engine.find_model import find_model
from msrcnn.errors import UserError

run_module = sys.modules[run.__module__]  # the function of the same name hides it
STATE = (
    *("model_0000003.pth", "model_final.pth", "model_best.pth", "model_fitted.pth"),
    *("model_fitted.yaml", "last_checkpoint", "metrics.json", "events.out.tfevents.1.host"),
)
RESULTS = (
    *("fit.json", "evaluation.json", "per_class.csv", "report.html", "plots", "diverged.pth"),
    *("shapes_val", "shapes_test"),  # of two test datasets
)
STAY = (
    "config.yaml",
    "log.txt",
    "model.pth",
    "model_imagenet.pth",
    "samples",
)  # a folder of the user, too


@pytest.fixture
def cfg(tiny_cfg, tmp_path):
    for name in (*STATE, *RESULTS, *STAY):
        (tmp_path / name).write_text(name)
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "predictions.npz").touch()
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    tiny_cfg.DATASETS.TEST = ("shapes_val", "shapes_test")
    return tiny_cfg


def test_files_are_moved(cfg, tmp_path):
    aside = tmp_path / "earlier_run_1"
    notes = set_aside_earlier_run(cfg, resume=False)
    assert notes == [f"The files of an earlier run are in {aside} now."]
    moved = (*STATE, *RESULTS, "config.yaml")
    assert {path.name for path in aside.iterdir()} == {*moved, "inference"}
    assert all((aside / name).read_text() == name for name in moved)
    assert {path.name for path in tmp_path.iterdir()} == {*STAY, aside.name}
    assert set_aside_earlier_run(cfg, resume=False) == []  # no training has been
    assert not (tmp_path / "earlier_run_2").exists()
    (tmp_path / "metrics.json").write_text("{}")
    set_aside_earlier_run(cfg, resume=False)
    assert (tmp_path / "earlier_run_2" / "metrics.json").exists()


def test_a_start_that_failed_leaves_nothing(cfg, tmp_path):
    """Not a folder for each attempt."""
    cfg.OUTPUT_DIR = str(tmp_path / "new")
    (tmp_path / "new").mkdir()
    log, events = tmp_path / "new" / "metrics.json", tmp_path / "new" / "events.out.tfevents.1.host"
    log.touch()
    events.write_bytes(bytes(88))
    assert set_aside_earlier_run(cfg, resume=False) == []
    assert list((tmp_path / "new").iterdir()) == []
    log.touch()
    events.write_bytes(bytes(500))
    assert len(set_aside_earlier_run(cfg, resume=False)) == 1
    assert (tmp_path / "new" / "earlier_run_1" / events.name).exists()


def test_a_run_that_resumes_keeps_its_files(cfg, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert set_aside_earlier_run(cfg, resume=True) == []
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_to_resume_from(cfg, tmp_path):
    """The log of a run that was killed before its first checkpoint is not that of the next."""
    for path in resumable_checkpoints(tmp_path):
        path.unlink()
    _, fresh = set_aside_earlier_run(cfg, resume=True)
    assert (tmp_path / "earlier_run_1" / "metrics.json").exists()
    assert fresh == f"--resume: no checkpoint in {tmp_path}, training starts at iteration 0."


def test_where_the_checkpoints_are_if_resume_was_forgotten_once(cfg, tmp_path):
    set_aside_earlier_run(cfg, resume=False)
    _, where = set_aside_earlier_run(cfg, resume=True)
    assert where.startswith(f"{tmp_path / 'earlier_run_1'} has checkpoints: move its files back")


def test_weights_to_start_from_are_not_moved(cfg, tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    cfg.MODEL.WEIGHTS = "model_final.pth"
    with pytest.raises(UserError, match="'model_final.pth' is of an earlier run in OUTPUT_DIR"):
        set_aside_earlier_run(cfg, resume=False)
    assert sorted(tmp_path.iterdir()) == before
    cfg.MODEL.WEIGHTS = "model.pth"
    assert len(set_aside_earlier_run(cfg, resume=False)) == 1


def test_files_that_cannot_be_moved(cfg, tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(UserError, match="cannot move .*: Permission denied; choose another"):
        set_aside_earlier_run(cfg, resume=False)


def test_only_the_main_process_moves(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert set_aside_earlier_run(cfg, resume=False) == []
    assert (tmp_path / "model_final.pth").exists()


def test_a_new_folder(tiny_cfg, tmp_path):
    tiny_cfg.OUTPUT_DIR = str(tmp_path / "new")
    assert set_aside_earlier_run(tiny_cfg, resume=False) == []


@pytest.mark.slow
def test_a_second_training_starts_a_log_of_its_own(shapes_root, tmp_path):
    register(shapes_root)
    changes = {"SOLVER.MAX_ITER": 2, "SOLVER.STEPS": (), "TEST.EVAL_PERIOD": 0}
    cfg = run_cfg(shapes_root, tmp_path, **changes)
    for _ in range(2):
        run(cfg)
    _, config_file = find_model(str(tmp_path / "earlier_run_1"))
    assert Path(config_file) == tmp_path / "earlier_run_1" / "config.yaml"
    assert "earlier_run_1 now" in (tmp_path / "log.txt").read_text()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert sum("bbox/AP" in line for line in lines) == 1
    run(cfg, resume=True)  # it has ended, and stays ended
    assert not (tmp_path / "earlier_run_2").exists()


@pytest.mark.parametrize("name", [name for name in STATE if "fitted" not in name])
def test_a_fit_does_not_replace_the_results_of_a_training(tmp_path, run_command, name):
    (tmp_path / name).touch()
    given = ["--weights", tmp_path / "model_final.pth", "--output-dir", tmp_path]
    code, _, errors = run_command("fit-scores", *given)
    assert code == 1
    assert f"is the folder of a training ({name})" in errors
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_fit_may_be_repeated_in_its_folder(tmp_path):
    refuse_training_folder(tmp_path / "new")
    for name in ("model_fitted.pth", "model_fitted.yaml", "fit.json", "config.yaml", "log.txt"):
        (tmp_path / name).touch()
    refuse_training_folder(tmp_path)


def test_an_evaluation_does_not_replace_the_config_of_a_training(cfg, tmp_path, monkeypatch):
    """With it, the model would be used with the settings of the evaluation from then on."""
    folders = []

    def evaluate(cfg, **kwargs):
        folders.append((tmp_path / "config.yaml").read_text())

    monkeypatch.setattr(run_module, "evaluate", evaluate)
    cfg.DATASETS.TEST = ()
    run(cfg, eval_only=True)
    assert folders == ["config.yaml"]
    for path in tmp_path.iterdir():  # where no training was, the config is written
        if path.is_file():
            path.unlink()
    run(cfg, eval_only=True)
    assert "MASKIOU_ON" in folders[1]


def test_the_eval_command_refuses_the_folder_of_a_training(model_folder, run_command):
    weights = model_folder / "model_final.pth"
    config = (model_folder / "config.yaml").read_text()
    code, _, err = run_command("eval", "--weights", weights, "--output-dir", model_folder)
    assert code == 1
    assert f"--output-dir '{model_folder}' is the folder of a training" in err
    assert (model_folder / "config.yaml").read_text() == config
