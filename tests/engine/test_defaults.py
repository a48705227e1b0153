import json
import logging
import multiprocessing

import pytest
import torch

from msrcnn.engine import defaults
from msrcnn.engine.defaults import (
    argument_parser,
    complete_config,
    find_config,
    launch_tool,
    load_config,
    run_tool,
    setup,
)
from msrcnn.errors import UserError

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"


def parse(*arguments):
    return argument_parser("test").parse_args(list(arguments))


def test_config_by_path_or_name(tmp_path):
    (tmp_path / "own.yaml").write_text("SEED: 7\n")
    assert find_config(str(tmp_path / "own.yaml")) == tmp_path / "own.yaml"
    assert find_config(SMOKE).name == "smoke_ms_rcnn_R_18_FPN.yaml"


@pytest.mark.parametrize("file", ["nowhere.yaml", ""])
def test_missing_config(file):
    with pytest.raises(UserError, match=f"--config-file '{file}': no such file"):
        find_config(file)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.MASKIOU", "True"], "command line: .*MODEL.MASKIOU"),
        (["SEED"], "command line"),
        (["SEED", "often"], "command line: .*SEED"),
    ],
)
def test_bad_override_is_one_clear_message(opts, message):
    with pytest.raises(UserError, match=message):
        load_config(find_config(SMOKE), opts)


def test_unknown_key_in_a_file_names_the_file(tmp_path):
    (tmp_path / "own.yaml").write_text("MODEL:\n  MASKIOU_OFF: True\n")
    with pytest.raises(UserError, match=r"own\.yaml: .*MASKIOU_OFF"):
        load_config(tmp_path / "own.yaml", [])


@pytest.mark.parametrize("text", ["MODEL: [", "_BASE_: nowhere.yaml", "just words", "MODEL: 5"])
def test_file_that_is_no_config(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config .*own\.yaml: "):
        load_config(tmp_path / "own.yaml", [])


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["DATASETS.TRAIN", "('coco_2017',)"], "no dataset 'coco_2017' is registered; nearest: "),
        (["DATASETS.TRAIN", "('lvis_v1_train',)"], "lvis_v1_train.json' does not exist"),
        (["MODEL.ROI_HEADS.NAME", "Nonsense"], "ROI_HEADS.NAME is 'Nonsense'; allowed"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "Nonsense"], "INPUT is 'Nonsense'; allowed"),
    ],
)
def test_what_cannot_run_is_refused_before_it_runs(opts, message, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        setup(parse("--config-file", SMOKE, "OUTPUT_DIR", str(output), *opts))
    assert not output.exists()


def test_more_gpus_than_there_are(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(defaults, "complete_config", lambda args: None)
    with pytest.raises(SystemExit):
        launch_tool(lambda args: None, parse("--num-gpus", "8"))
    assert "--num-gpus 8, but this machine has 0" in capsys.readouterr().err


def test_setup(tmp_path, shapes_root, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    annotations = f"{shapes_root}/annotations/instances_"
    data = {s: f"{annotations}{s}.json:{shapes_root}/{s}" for s in ("train", "val")}
    cfg = setup(
        parse(
            *("--config-file", SMOKE, "--train-data", data["train"], "--val-data", data["val"]),
            *("OUTPUT_DIR", str(tmp_path), "SEED", "1"),
        )
    )
    assert cfg.is_frozen()
    assert cfg.MODEL.DEVICE == "cpu"
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 6
    shown = capsys.readouterr().out
    assert "No GPU found: running on the CPU." in shown
    assert "Running with full config" not in shown
    assert "Running with full config" in (tmp_path / "log.txt").read_text()
    assert load_config(tmp_path / "config.yaml", []).MODEL.MASKIOU_ON


def test_missing_weights(tmp_path):
    args = parse("--config-file", SMOKE, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "/no.pth")
    with pytest.raises(UserError, match=r"MODEL.WEIGHTS '/no\.pth': no such file"):
        setup(args)


def test_weights_of_an_unknown_model(tmp_path):
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_4x"
    args = parse("--config-file", SMOKE, "OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", name)
    with pytest.raises(UserError, match=f"MODEL.WEIGHTS '{name}': no such file, nor .*FPN_3x"):
        setup(args)


def test_no_config_key_trusts_weights():
    """A config travels with the weights that it would trust."""
    assert not parse("--config-file", SMOKE).trust_weights
    assert parse("--config-file", SMOKE, "--trust-weights").trust_weights
    assert "trust" not in load_config(find_config(SMOKE), []).dump().lower()


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
def test_what_the_terminal_shows(name, function, level, shown):
    level = getattr(logging, level)
    record = logging.LogRecord(name, level, "file", 1, "message", None, None, function)
    assert defaults._for_console(record) == shown


def test_mistake_of_the_user_ends_a_tool_with_one_line(capsys):
    def main():
        raise UserError("annotation 5 is bad: remove it")

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: annotation 5 is bad: remove it\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: json.loads("1") / 0)


@pytest.mark.parametrize("in_base", [False, True])
def test_config_is_data(tmp_path, in_base):
    """A config comes with weights, and is read unasked where it lies beside them."""
    marker = tmp_path / "ran"
    hostile = tmp_path / "hostile.yaml"
    hostile.write_text(f"MODEL:\n  WEIGHTS: !!python/object/apply:os.system ['touch {marker}']\n")
    config = hostile
    if in_base:
        config = tmp_path / "model.yaml"
        config.write_text("_BASE_: hostile.yaml\n")
    with pytest.raises(UserError, match="python/object"):
        load_config(config, [])
    assert not marker.exists()


def test_going_on_needs_no_old_weights(tmp_path):
    """They may be gone; the checkpoint is what counts."""
    opts = ("OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", "/no.pth", "DATASETS.TEST", "()")
    args = parse("--config-file", SMOKE, "--resume", *opts)
    args.eval_only = True  # no dataset is looked for
    with pytest.raises(UserError, match="no such file"):
        complete_config(args)
    (tmp_path / "model_0000001.pth").write_bytes(b"")
    complete_config(args)


def refuse(args):
    raise UserError("refused")


def test_mistake_in_one_of_several_processes(capfd):
    """One line, and the process is gone at once: the others may be waiting for it."""
    process = multiprocessing.get_context("fork").Process(
        target=defaults._in_process, args=(refuse, None)
    )
    process.start()
    process.join()
    assert process.exitcode == 1
    assert capfd.readouterr().err == "error: refused\n"
