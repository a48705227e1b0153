"""Tests of the ``msrcnn`` command line."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image
from torch.multiprocessing import ProcessExitedException

from msrcnn import cli
from msrcnn.error_report import report_errors
from msrcnn.errors import Interrupted, UserError
from msrcnn.version import __version__

MSRCNN = str(Path(sys.executable).parent / "msrcnn")
TOOLS = {
    "train_net": "train",
    "eval_net": "eval",
    "fit_scores": "fit-scores",
    "predict": "predict",
    "export_model": "export",
    "convert_checkpoint": "convert",
    "ablate": "ablate",
    "check_dataset": "check",
    "benchmark": "benchmark",
    "draw_predictions": "draw",
    "compare_with_published": "compare",
    "record_result": "record",
    "doctor": "doctor",
}


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


def run_in_process(capsys, monkeypatch, *arguments, command=None):
    """Runs a command in this process; returns its exit status, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["msrcnn", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_a_sweep_is_planned_or_reported(capsys, monkeypatch):
    arguments = ("--sweep", "loss", "--output-dir", "out", "--dry-run", "--report-only")
    _, _, err = run_in_process(capsys, monkeypatch, "ablate", *arguments)
    assert "--report-only: not allowed with argument --dry-run" in err


def test_home_is_replaced_where_a_shell_does_not(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run_in_process(capsys, monkeypatch, "check", "~/a.json", "~")
    assert (code, f"'{tmp_path}/a.json' does not exist" in err) == (1, True)
    code, _, err = run_in_process(capsys, monkeypatch, "train", "--config-file=~/a.yaml")
    assert (code, f"'{tmp_path}/a.yaml': no such file" in err) == (1, True)


def test_list_of_commands(capsys, monkeypatch):
    code, out, _ = run_in_process(capsys, monkeypatch, "-h")
    assert code == 0
    for command, text in cli.COMMANDS.items():
        assert re.search(rf"^ +{command} +{text}$", out, re.MULTILINE)
    assert run_in_process(capsys, monkeypatch, "--version")[1] == f"{__version__}\n"
    for arguments in ([], ["trian"]):
        code, _, err = run_in_process(capsys, monkeypatch, *arguments)
        assert code == 2
        assert "COMMAND" in err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys, monkeypatch):
    code, out, _ = run_in_process(capsys, monkeypatch, command, "-h")
    assert code == 0
    assert out.startswith(f"usage: msrcnn {command} ")
    assert "\n\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["draw", "--num-images", "0"], "argument --num-images: '0' is not a whole number from 1"),
        (["convert", "--bn-eps=-1e-5"], "argument --bn-eps: '-1e-5' is not a number from 0"),
        (["convert", "--bn-eps", "nan"], "argument --bn-eps: 'nan' is not a number from 0"),
        (["fit-scores", "--cache-gb", "nan"], "argument --cache-gb: 'nan' is not a number from 0"),
        (["fit-scores", "--cache-gb", "0"], "argument --cache-gb: '0' is not above 0"),
        (["predict", "--min-score", "nan"], "argument --min-score: 'nan' is not a number from 0"),
        (["convert", "--bn-eps", "small"], "argument --bn-eps: 'small' is not a number from 0"),
    ],
)
def test_numbers_that_make_no_sense(capsys, monkeypatch, arguments, message):
    code, _, err = run_in_process(capsys, monkeypatch, *arguments)
    assert (code, err.splitlines()[-1]) == (2, f"msrcnn {arguments[0]}: error: {message}")


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["soft-nms", "--repeats", "0"], "--repeats"),
        (["evaluation", "--annotations", "a.json", "--images", "2", "0"], "--images"),
    ],
)
def test_benchmarks_of_nothing(capsys, monkeypatch, arguments, flag):
    code, _, err = run_in_process(capsys, monkeypatch, "benchmark", *arguments)
    assert (code, err) == (1, f"error: {flag} is 0; it must be at least 1\n")


# Flags of Detectron2's argument parser, and the commands that use them.
DETECTRON2 = ["--config-file", "--resume", "--eval-only", "--num-gpus", "--machine-rank"]
FLAGS = {
    "train": DETECTRON2,
    "eval": ["--config-file", "--num-gpus", "--machine-rank"],
    "fit-scores": ["--config-file", "--num-gpus", "--machine-rank"],
    "predict": ["--config-file", "--resume"],
    "export": ["--config-file"],
}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_only_flags_that_do_something(command, capsys, monkeypatch):
    _, out, _ = run_in_process(capsys, monkeypatch, command, "-h")
    for flag in DETECTRON2:
        assert (f"{flag} " in out or f"{flag}]" in out) == (flag in FLAGS.get(command, [])), flag


@pytest.mark.parametrize(("tool", "command"), TOOLS.items())
def test_tools_run_the_commands(tool, command):
    text = (ROOT / "tools" / f"{tool}.py").read_text()
    assert f'main("{command}")' in text
    assert len([line for line in text.splitlines() if line]) == 5  # nothing else


def test_every_command_has_a_tool():
    names = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert names == {*TOOLS, "install_detectron2"}
    assert set(TOOLS.values()) == set(cli.COMMANDS)


def test_console_script_and_tool_print_the_same_help():
    expected = run(MSRCNN, "check", "-h", cwd=ROOT)
    assert expected.returncode == 0, expected.stderr
    found = run(sys.executable, "tools/check_dataset.py", "-h", cwd=ROOT)
    named = expected.stdout.replace("msrcnn check", "tools/check_dataset.py")
    assert found.stdout.split() == named.split()


def test_user_error_ends_a_command_with_one_line(capsys):
    def fail():
        raise UserError("annotation 5 is bad: remove it")

    with pytest.raises(SystemExit) as stop:
        report_errors(fail)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: annotation 5 is bad: remove it\n"


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted; continue with: msrcnn x"),
        (Interrupted(signal.SIGTERM), 143, "interrupted; continue with: msrcnn x"),
        (Interrupted(note="jobs run"), 130, "interrupted; jobs run; continue with: msrcnn x"),
        (
            ProcessExitedException("", -1, 1, exit_code=-signal.SIGTERM),
            143,
            "interrupted; continue ",
        ),
    ],
)
def test_interruption_ends_a_command_with_one_line(capsys, raised, status, line):
    def fail():
        raise raised

    with pytest.raises(SystemExit) as stop:
        report_errors(fail, "msrcnn x")
    assert stop.value.code == status
    (found,) = capsys.readouterr().err.splitlines()
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["train", "--config-file", "a b"], "msrcnn train --resume --config-file 'a b'"),
        (["train", "--resume", "--config-file", "x"], "msrcnn train --resume --config-file x"),
        (
            ["train", "--config-file", "x", "--eval-only"],
            "msrcnn train --config-file x --eval-only",
        ),
        (["eval", "--weights", "w", "A", "(1, 2)"], "msrcnn eval --weights w A '(1, 2)'"),
    ],
)
def test_interruption_says_how_to_continue(capsys, monkeypatch, arguments, again):
    """A signal that asks the process to end is handled like Ctrl-C, in whatever it does."""
    module = importlib.import_module(f"msrcnn.commands.{arguments[0]}")
    monkeypatch.setattr(module, "run", lambda args: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["msrcnn", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 143
    assert capsys.readouterr().err == f"interrupted; continue with: {again}\n"


def test_interruption_that_ends_other_processes_first(capsys):
    def fail():
        try:
            raise Interrupted(signal.SIGTERM)
        finally:
            raise RuntimeError("DataLoader worker is killed by signal: Terminated.")

    with pytest.raises(SystemExit) as stop:
        report_errors(fail, "x")
    assert stop.value.code == 143
    assert capsys.readouterr().err == "interrupted; continue with: x\n"


@pytest.mark.parametrize("lines", [1, 10_000])  # all at the end, or while the command runs
def test_a_reader_that_has_ended(capsys, monkeypatch, lines):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        with pytest.raises(SystemExit) as stop:
            report_errors(lambda: print("a line\n" * lines), "msrcnn x")
    monkeypatch.undo()
    assert stop.value.code == 128 + signal.SIGPIPE
    assert capsys.readouterr().err == ""


def test_another_pipe_that_breaks_is_an_error():
    def fail():
        raise BrokenPipeError("of a worker")

    with pytest.raises(BrokenPipeError, match="of a worker"):
        report_errors(fail)


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        report_errors(lambda: 1 / 0)


def test_no_config_key_trusts_weights(capsys, monkeypatch):
    """Configs are distributed with weights, so they must not decide whether to trust them."""
    for command in ("train", "eval", "predict", "export", "convert"):
        assert "--trust-weights" in run_in_process(capsys, monkeypatch, command, "-h")[1]
    from msrcnn import get_config

    assert "trust" not in get_config("quick/smoke_ms_rcnn_R_18_FPN.yaml").dump().lower()


def test_check_lists_every_problem(capsys, monkeypatch, shapes_root, tmp_path):
    annotations = shapes_root / "annotations" / "instances_val.json"
    monkeypatch.setattr(sys, "argv", ["msrcnn", "check", str(annotations), f"{shapes_root}/val"])
    cli.main()
    content = json.loads(annotations.read_text())
    out = capsys.readouterr().out
    assert f"no problems; 6 images, {len(content['annotations'])} annotations, 6 categories" in out
    assert re.search("^objects: at most [0-9]+ in an image", out, re.MULTILINE)
    assert "annotations of each class: " in out

    content["annotations"][0]["category_id"] = 99
    content["annotations"][2]["bbox"] = [1, 2, 0, 4]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(content))
    code, out, err = run_in_process(capsys, monkeypatch, "check", str(bad), f"{shapes_root}/val")
    assert code == 1
    assert "annotation 1: category_id 99" in out
    assert re.search("^warning .*annotation 3: bbox", out, re.MULTILINE)
    assert err == f"error: {bad}: 1 problem\n"

    content["annotations"][0] = dict(content["annotations"][1], id=999)
    content["annotations"][2]["bbox"] = [1, 2, 9, 4]
    bad.write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["msrcnn", "check", str(bad), f"{shapes_root}/val"])
    cli.main()
    assert "near-duplicates" in capsys.readouterr().out  # hotcoco's health check


def test_check_writes_a_fixed_copy_and_a_report(capsys, monkeypatch, shapes_root, tmp_path):
    content = json.loads((shapes_root / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = str(annotation["iscrowd"])
    bad, images = tmp_path / "bad.json", f"{shapes_root}/val"
    bad.write_text(json.dumps(content))
    before = bad.read_bytes()
    fixed, page = tmp_path / "out" / "fixed.json", tmp_path / "page.html"
    flags = ("--fix", str(fixed), "--report", str(page))
    monkeypatch.setattr(sys, "argv", ["msrcnn", "check", str(bad), images, *flags])
    cli.main()
    out = capsys.readouterr().out
    assert "annotation 1: iscrowd '0' is 0 now" in out
    assert f"Wrote {fixed}: {len(content['annotations'])} changes" in out
    assert bad.read_bytes() == before
    assert page.read_text().startswith("<!DOCTYPE html>")
    monkeypatch.setattr(sys, "argv", ["msrcnn", "check", str(fixed), images])
    cli.main()

    (tmp_path / "link.json").symlink_to(bad)
    for target in (bad, tmp_path / "link.json"):
        flags = ("--fix", str(target))
        code, _, err = run_in_process(capsys, monkeypatch, "check", str(bad), images, *flags)
        assert code == 1
        assert "is the input itself: give another file" in err
        flags = ("--report", str(target))
        code, _, err = run_in_process(capsys, monkeypatch, "check", str(bad), images, *flags)
        assert code == 1
        assert f"--report '{target}' would overwrite '{bad}': give another file" in err
    assert bad.read_bytes() == before

    content["annotations"][0]["segmentation"] = [[None] * 6]
    bad.write_text(json.dumps(content))
    code, _, err = run_in_process(
        capsys, monkeypatch, "check", str(bad), images, "--fix", str(fixed)
    )
    assert code == 1
    assert err == f"error: {fixed}: 1 problem\n"
    _, _, err = run_in_process(capsys, monkeypatch, "check", "a", images, "--convert", "cvat")
    assert "--convert needs --fix" in err


def test_check_reads_no_image_outside_of_the_working_directory(run_command, tmp_path, monkeypatch):
    """Of data of others, which ``--report`` would show."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    Image.new("RGB", (20, 10)).save(tmp_path / "secret.png")
    image = {"id": 1, "file_name": "../secret.png", "width": 20, "height": 10}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 8]}
    box |= {"segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]}
    content = {"images": [image], "categories": [{"id": 1, "name": "a"}], "annotations": [box]}
    Path("a.json").write_text(json.dumps(content))
    code, out, _ = run_command("check", "a.json", ".", "--report", "page.html")
    assert code == 1
    assert "image 1: its file name '../secret.png' leads out of the image directory" in out
    assert "<img" not in Path("page.html").read_text()


@pytest.mark.slow
def test_wheel_works_without_the_repository(tmp_path):
    """The wheel contains the configs, and its console script finds them."""
    done = run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(tmp_path), str(ROOT)),
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("msrcnn-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"msrcnn/configs/{path.relative_to(ROOT / 'configs')}" in names
    assert any(name.endswith("report.css") for name in names)
    assert any(name.endswith("scripts/install_detectron2.py") for name in names)
    site = tmp_path / "site"
    done = run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site)),
        str(wheel),
    )
    assert done.returncode == 0, done.stderr
    # PYTHONPATH takes precedence over the editable installation of the repository.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = "import msrcnn; print(msrcnn.__file__)"
    done = run(sys.executable, "-c", where, cwd=tmp_path, env=environment)
    assert done.stdout.startswith(str(site))
    done = run(sys.executable, "-m", "msrcnn", "--version", cwd=tmp_path, env=environment)
    assert done.stdout == f"{__version__}\n"
    done = run(
        *(sys.executable, str(site / "bin" / "msrcnn"), "benchmark", "cost", "--config-file"),
        *("quick/smoke_ms_rcnn_R_18_FPN.yaml", "--json", str(tmp_path / "cost.json")),
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "maskiou_head" in json.loads((tmp_path / "cost.json").read_text())["heads"]
