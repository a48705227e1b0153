"""A training that starts in the output folder of an earlier one does not mix with it."""

import json

import pytest
from detectron2.utils import comm
from training_process import register, run_cfg

from msrcnn.checkpoint.checkpoint_files import resumable_checkpoints
from msrcnn.engine import run
from msrcnn.engine.earlier_run import set_aside_earlier_run

MOVED = (
    *("model_0000003.pth", "model_final.pth", "model_best.pth", "model_fitted.pth"),
    *("model_fitted.yaml", "fit.json", "last_checkpoint", "metrics.json"),
    "events.out.tfevents.1.host",
)
STAY = ("config.yaml", "log.txt", "model.pth", "model_imagenet.pth", "evaluation.json")


@pytest.fixture
def cfg(tiny_cfg, tmp_path):
    for name in (*MOVED, *STAY):
        (tmp_path / name).write_text(name)
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "key.json").touch()
    tiny_cfg.OUTPUT_DIR = str(tmp_path)
    return tiny_cfg


def test_files_are_moved(cfg, tmp_path):
    assert set_aside_earlier_run(cfg, resume=False) == cfg
    aside = tmp_path / "earlier_run_1"
    assert {path.name for path in aside.iterdir()} == {*MOVED, "samples"}
    assert all((aside / name).read_text() == name for name in MOVED)
    assert {path.name for path in tmp_path.iterdir()} == {*STAY, aside.name}
    set_aside_earlier_run(cfg, resume=False)
    assert not (tmp_path / "earlier_run_2").exists()  # nothing was left
    (tmp_path / "metrics.json").touch()
    set_aside_earlier_run(cfg, resume=False)
    assert (tmp_path / "earlier_run_2" / "metrics.json").exists()


def test_a_run_that_resumes_keeps_its_files(cfg, tmp_path):
    before = sorted(tmp_path.iterdir())
    set_aside_earlier_run(cfg, resume=True)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_to_resume_from(cfg, tmp_path):
    """The log of a run that was killed before its first checkpoint is not that of the next."""
    for path in resumable_checkpoints(tmp_path):
        path.unlink()
    set_aside_earlier_run(cfg, resume=True)
    assert (tmp_path / "earlier_run_1" / "metrics.json").exists()


@pytest.mark.parametrize(("name", "moves"), [("model_final.pth", True), ("model.pth", False)])
def test_weights_to_start_from_are_found_again(cfg, tmp_path, name, moves):
    cfg.MODEL.WEIGHTS = str(tmp_path / name)
    found = set_aside_earlier_run(cfg, resume=False).MODEL.WEIGHTS
    assert found == str(tmp_path / ("earlier_run_1" if moves else "") / name)


def test_only_the_main_process_moves(cfg, tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda own: [tmp_path / "earlier_run_7", own])
    cfg.MODEL.WEIGHTS = str(tmp_path / "gone.pth")
    found = set_aside_earlier_run(cfg, resume=False).MODEL.WEIGHTS
    assert found == str(tmp_path / "earlier_run_7" / "gone.pth")
    assert (tmp_path / "model_final.pth").exists()


@pytest.mark.slow
def test_a_second_training_starts_a_log_of_its_own(shapes_root, tmp_path):
    register(shapes_root)
    changes = {"SOLVER.MAX_ITER": 2, "SOLVER.STEPS": (), "TEST.EVAL_PERIOD": 0}
    cfg = run_cfg(shapes_root, tmp_path, **changes)
    for _ in range(2):
        run(cfg)
    assert (tmp_path / "earlier_run_1" / "model_final.pth").is_file()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert sum("bbox/AP" in line for line in lines) == 1
    run(cfg, resume=True)  # it has ended, and stays ended
    assert not (tmp_path / "earlier_run_2").exists()
