import io
import logging
import multiprocessing
import sys

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import SimpleTrainer

from msrcnn.config import load_config
from msrcnn.engine import Trainer, prepare_config, run_log, start_run
from msrcnn.engine.device import _log_once, on_available_device
from msrcnn.engine.run_log import _for_console
from msrcnn.errors import UserError

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"


@pytest.fixture
def cfg(shapes_root, tmp_path):
    annotations = f"{shapes_root}/annotations/instances_"
    data = {s: f"{annotations}{s}.json:{shapes_root}/{s}" for s in ("train", "val")}
    return prepare_config(
        SMOKE,
        ["OUTPUT_DIR", str(tmp_path), "SEED", "1"],
        train_data=[data["train"]],
        val_data=[data["val"]],
        splits=("TRAIN", "TEST"),
    )


def test_start_run(cfg, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.SOLVER.AMP.ENABLED = True
    prepared = cfg.clone()
    started = start_run(cfg)
    assert cfg == prepared  # not modified: other processes get it too
    assert started.is_frozen()
    assert started.MODEL.ROI_HEADS.NUM_CLASSES == 6
    shown = capsys.readouterr().out
    assert "Custom data: 6 classes, masks as bitmask." in shown
    assert "Running with full config" not in shown
    assert "Running with full config" in (tmp_path / "log.txt").read_text()
    written = load_config(tmp_path / "config.yaml")
    assert written.MODEL.MASKIOU_ON
    # For a machine with a GPU, too: what was asked for.
    assert (written.MODEL.DEVICE, written.SOLVER.AMP.ENABLED) == ("cuda", True)


@pytest.mark.parametrize("opts", [[], ["DATASETS.TEST", "('coco_2017_val',)"]])
def test_only_datasets_that_the_user_names_are_kept_beside_custom_ones(shapes_root, opts):
    data = f"{shapes_root}/annotations/instances_train.json:{shapes_root}/train"
    cfg = prepare_config(SMOKE, opts, train_data=[data])
    assert cfg.DATASETS.TEST == (("coco_2017_val",) if opts else ())


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_output_folder_that_cannot_be_written_to(cfg, tmp_path, name):
    (tmp_path / "file").touch()
    cfg.OUTPUT_DIR = str(tmp_path / name)
    with pytest.raises(UserError, match=f"cannot write to OUTPUT_DIR '.*{name}': .*choose another"):
        start_run(cfg)


def test_model_and_trainer_use_the_available_device(cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg.SOLVER.AMP.ENABLED = True
    asked = cfg.clone()
    used = on_available_device(cfg)
    assert cfg == asked
    assert (used.MODEL.DEVICE, used.SOLVER.AMP.ENABLED) == ("cpu", False)
    trainer = Trainer(start_run(cfg))
    assert next(trainer.model.parameters()).device.type == "cpu"
    assert type(trainer._trainer) is SimpleTrainer
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_available_device(cfg) is cfg


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_a_device_that_the_machine_lacks(tiny_cfg, monkeypatch, caplog, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    _log_once.cache_clear()
    tiny_cfg.MODEL.DEVICE = device
    with caplog.at_level("INFO"):
        assert on_available_device(tiny_cfg).MODEL.DEVICE == "cpu"
    assert f"No device '{device}' found: running on the CPU." in caplog.text
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert on_available_device(tiny_cfg).MODEL.DEVICE == device


def count_images(cfg, folder):
    assert cfg.DATASETS.TRAIN[0] not in DatasetCatalog.list()
    started = start_run(cfg)
    (name,) = started.DATASETS.TRAIN
    (folder / "images").write_text(str(len(DatasetCatalog.get(name))))
    assert MetadataCatalog.get(name).thing_classes[0] == "disc"


def test_custom_data_in_a_spawned_process(cfg, tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=count_images, args=(cfg, tmp_path)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "images").read_text() == "12"


@pytest.mark.parametrize(
    ("name", "function", "level", "shown"),
    [
        ("msrcnn.checkpoint.checkpointer", "load", "INFO", True),
        ("msrcnn.checkpoint.checkpointer", "load", "DEBUG", False),
        ("fvcore.common.checkpoint", "save", "INFO", True),
        ("fvcore.common.checkpoint", "load", "INFO", False),
        ("fvcore.common.checkpoint", "_log_incompatible_keys", "WARNING", False),
        ("detectron2.checkpoint.c2_model_loading", "align", "WARNING", False),
        ("detectron2.checkpoint.c2_model_loading", "align", "ERROR", True),
        ("detectron2.evaluation.evaluator", "inference", "INFO", True),
        ("detectron2.data.build", "build", "INFO", False),
        ("detectron2.data.build", "build", "WARNING", True),
    ],
)
def test_console_filter(name, function, level, shown):
    level = getattr(logging, level)
    record = logging.LogRecord(name, level, "file", 1, "message", None, None, function)
    assert _for_console(record) == shown


@pytest.mark.parametrize("start", [run_log.start_console_log, lambda: run_log.start_log("out")])
def test_details_are_not_shown(start, monkeypatch, tmp_path):
    """Such as the names of all parameters, also in commands that keep no log file."""
    stream, logger = io.StringIO(), logging.getLogger("msrcnn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(logger, "handlers", [])
    run_log.setup_logger.cache_clear()
    start()
    logger.debug("all names")
    logger.info("a summary")
    run_log.setup_logger.cache_clear()
    assert "a summary" in stream.getvalue()
    assert "all names" not in stream.getvalue()
