"""Sweeps from the command line to the table, with real runs of a few seconds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from fake_slurm import add_slurm

from msrcnn.cli import main

pytestmark = pytest.mark.slow

STEPS = 3
SPLITS = ("train", "val")
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "TEST.BOOTSTRAP", "20"]
CONTENT = {
    "title": "Sample",
    "base": "quick/smoke_ms_rcnn_R_18_FPN.yaml",
    "seeds": [1],
    "head_only": {"SOLVER.MAX_ITER": 2},
    "report": {"AP": "segm_mask_score/AP", "box": "bbox/AP"},
    "baseline": "concat",
    "variants": {
        "concat": {"set": {"SOLVER.MAX_ITER": STEPS, "SOLVER.CHECKPOINT_PERIOD": 1}},
        "multiply": {"set": {"MODEL.ROI_MASKIOU_HEAD.INPUT": "multiply"}},
    },
}


# Python runs this module when it starts: a training waits after its second checkpoint while a file
# exists, so that tests do not depend on how fast it is.
HOLD = """
import pathlib, time
replace = pathlib.Path.replace
def replace_and_wait(part, path):
    result = replace(part, path)
    while path.name == "model_0000001.pth" and pathlib.Path("{file}").exists():
        time.sleep(0.02)
    return result
pathlib.Path.replace = replace_and_wait
"""


@pytest.fixture
def hold(tmp_path):
    """The file that holds trainings, created."""
    file = tmp_path / "hold"
    file.touch()
    (tmp_path / "sitecustomize.py").write_text(HOLD.format(file=file))
    return file


@pytest.fixture
def command(tmp_path, shapes_root):
    """Returns a command line for a sample sweep; its output folder is `tmp_path / "out"`."""

    def command(*arguments, content=None):
        sweep = tmp_path / "sample.yaml"
        sweep.write_text(yaml.safe_dump(content or CONTENT, sort_keys=False))
        data = [f"{shapes_root}/annotations/instances_{s}.json:{shapes_root}/{s}" for s in SPLITS]
        return [
            *("tools/ablate.py", "--sweep", str(sweep), "--gpus", "0"),
            *("--output-dir", str(tmp_path / "out")),
            *("--train-data", data[0], "--val-data", data[1], *arguments, *SMALL),
        ]

    return command


@pytest.fixture
def start(command, tmp_path):
    def start(*arguments, content=None, env=os.environ):
        return subprocess.Popen(
            [sys.executable, *command(*arguments, content=content)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**env, "PYTHONPATH": str(tmp_path)},
        )

    return start


@pytest.fixture
def run(start):
    def run(*arguments, **kwargs):
        process = start(*arguments, **kwargs)
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    return run


@pytest.fixture
def run_here(command, monkeypatch, capsys):
    """Like ``run``, in this process, which saves the time of the imports."""

    def run_here(*arguments, content=None):
        monkeypatch.setattr(sys, "argv", command(*arguments, content=content))
        try:
            main("ablate")
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run_here


def folder(output, name):
    (found,) = (output / "runs").glob(f"{name}-seed1-*")
    return found


def wait_for_checkpoint(output, process):
    """Waits for the second checkpoint of the variant `concat`."""
    while not list((output / "runs").glob("concat-*/model_0000001.pth")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def trainings(output, name):
    """The ids of the processes that train a variant."""
    job = str(folder(output, name) / "job")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode().split("\0")
        except OSError:  # it has just ended
            continue
        if "-m" in command and any(argument.startswith(job) for argument in command):
            found.append(int(path.parent.name))
    return found


def test_killed_failing_and_resumed(start, run_here, hold, tmp_path):
    """One variant is killed, one fails, one finishes; the next call resumes what it can."""
    output = tmp_path / "out"
    failing = {**CONTENT["variants"], "diverges": {"set": {"SOLVER.BASE_LR": 1.0e30}}}
    content = {**CONTENT, "variants": failing}
    process = start(content=content)
    wait_for_checkpoint(output, process)
    (training,) = trainings(output, "concat")
    os.kill(training, signal.SIGKILL)
    hold.unlink()
    stdout, stderr = process.communicate()
    assert process.returncode == 1
    assert "concat seed 1: failed" in stdout
    assert "multiply seed 1: done" in stdout
    assert "diverges seed 1: failed" in stdout
    assert "left no result: it was killed" in stderr.split("concat seed 1 has failed; its job ")[1]
    assert "training has diverged" in stderr.split("diverges seed 1 has failed; its job ")[1]
    assert stderr.strip().endswith("2 of 3 runs failed; run the same command again to retry")
    assert "Not finished: concat seed 1, diverges seed 1" in stdout  # the table of the others
    finished = folder(output, "multiply") / "result.json"
    before = finished.stat().st_mtime_ns

    del failing["diverges"]
    failing["unwanted"] = {"set": {"MODEL.ROI_MASKIOU_HEAD.NUM_CONV": 2}}
    code, stdout, stderr = run_here("--variants", "concat, multiply", content=content)
    assert code == 0, stderr
    assert not list((output / "runs").glob("unwanted-*"))
    assert "multiply seed 1: running" not in stdout
    assert finished.stat().st_mtime_ns == before
    log = (folder(output, "concat") / "log.txt").read_text()
    started = [int(n) for n in re.findall(r"Starting training from iteration (\d+)", log)]
    assert started[0] == 0
    assert started[1] > 0  # it was resumed
    results = json.loads((output / "results.json").read_text())
    assert results["missing"] == ["unwanted seed 1"]
    assert results["baseline"] == "concat"
    assert results["variants"]["concat"]["runs"][0]["steps"] == STEPS
    table = (output / "table.md").read_text()
    assert "| concat" in table
    assert "| multiply" in table

    # --report-only writes the same files again.
    for name in ("results.json", "table.md", "results.csv"):
        (output / name).unlink()
    code, _, stderr = run_here("--report-only", content=content)
    assert code == 0, stderr
    assert (output / "table.md").read_text() == table
    again = json.loads((output / "results.json").read_text())
    assert again["variants"] == results["variants"]


def test_every_run_fails(run_here, tmp_path):
    """Each says why, and there is no table to write."""
    variants = {"concat": {"set": {"SOLVER.BASE_LR": 1.0e30}}}
    code, _, stderr = run_here(content={**CONTENT, "variants": variants})
    assert code == 1
    assert "concat seed 1 has failed; its job " in stderr
    assert "training has diverged" in stderr
    assert stderr.strip().endswith("1 of 1 runs failed; run the same command again to retry")
    assert not (tmp_path / "out" / "table.md").exists()


def test_report_without_the_data_says_so(tmp_path):
    """Runs are identified by their data."""
    command = ["tools/ablate.py", "--sweep", "loss", "--quick", "--report-only"]
    done = subprocess.run(
        [sys.executable, *command, "--output-dir", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "DETECTRON2_DATASETS": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "dataset 'shapes_train'" in done.stderr
    assert "Set DETECTRON2_DATASETS" in done.stderr


def test_head_only_runs_share_boxes_and_masks(run_here, tmp_path):
    variants = {
        "concat": {},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    content = {**CONTENT, "variants": variants}
    content["report"] = {"AP": "segm_mask_score/AP", "mae": "maskiou/mae"}
    code, stdout, stderr = run_here("--head-only", "--slots", "2", content=content)
    assert code == 0, stderr
    assert "head only" in stdout
    found = [
        json.loads((folder(tmp_path / "out", name) / "result.json").read_text())["evaluation"]
        for name in ("mask_rcnn", "concat", "confidence")
    ]
    assert found[0]["segm_mask_score"] is None
    for evaluation in found[1:]:
        assert evaluation["bbox"] == found[0]["bbox"]
        assert evaluation["segm_box_score"] == found[0]["segm_box_score"]
    assert found[2]["segm_mask_score"] == found[2]["segm_mask_confidence"]


def test_interrupted_sweep_leaves_nothing_running(start, hold, tmp_path):
    output = tmp_path / "out"
    process = start()
    wait_for_checkpoint(output, process)
    assert trainings(output, "concat")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(r"interrupted; continue with: \S+ \S*ablate.py --sweep .+\n", stderr)
    assert not trainings(output, "concat")


def test_dry_run_writes_nothing(run_here, tmp_path):
    content = {**CONTENT, "variants": {"concat": {}}}
    code, stdout, stderr = run_here("--dry-run", "--head-only", content=content)
    assert code == 0, stderr
    assert re.search(r"concat +1 +0 +2 x 2 images +\d+\.\d+ +\d+:\d\d:\d\d", stdout)
    assert re.search(r"Training: about \d+:\d\d:\d\d in total", stdout)
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_one_line(run_here, tmp_path):
    wrong = {"concat": {}, "wrong": {"set": {"MODEL.MASKIOU_HEAD.INPUT": "concat"}}}
    code, _, stderr = run_here(content={**CONTENT, "variants": wrong})
    assert code == 1
    assert stderr.startswith("error: sweep ")
    assert "variant 'wrong'" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_sweep_on_slurm(run, tmp_path):
    path = add_slurm(tmp_path, os.environ["PATH"])
    code, stdout, stderr = run(
        *("--launcher", "slurm", "--slurm", "partition=long", "--slurm", "time=60"),
        env={**os.environ, "PATH": path},
    )
    assert code == 0, stderr
    assert "concat seed 1: done" in stdout
    assert "multiply seed 1: done" in stdout
    scripts = sorted((tmp_path / "slurm").glob("*.sh"))
    assert len(scripts) == 2
    for script, name in zip(scripts, ("concat", "multiply")):
        text = script.read_text()
        assert f"#SBATCH --job-name={name}" in text
        assert "#SBATCH --partition=long" in text
        assert "#SBATCH --time=60" in text


def test_a_slurm_job_whose_time_is_up_is_resumed(start, hold, tmp_path):
    path = add_slurm(tmp_path, os.environ["PATH"])
    output = tmp_path / "out"
    content = {**CONTENT, "variants": {"concat": CONTENT["variants"]["concat"]}}
    environment = {**os.environ, "PATH": path}
    process = start("--launcher", "slurm", content=content, env=environment)
    wait_for_checkpoint(output, process)
    (training,) = trainings(output, "concat")
    os.kill(training, signal.SIGUSR2)
    while training in trainings(output, "concat"):
        time.sleep(0.02)
    hold.unlink()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "concat seed 1: done" in stdout
    assert (tmp_path / "slurm" / "scontrol.txt").read_text().startswith("requeue ")
    log = (folder(output, "concat") / "log.txt").read_text()
    first, second = (int(n) for n in re.findall(r"Starting training from iteration (\d+)", log))
    assert first == 0 < second


def test_numbers_are_checked(run_here):
    code, _, stderr = run_here("--slots", "0")
    assert code == 2
    assert "'0' is not a whole number from 1" in stderr
