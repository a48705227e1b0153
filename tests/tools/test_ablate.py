"""Sweeps from the command line to the table, with real trainings of seconds."""

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
from test_tools import own_data

pytestmark = pytest.mark.slow

STEPS = 6
SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "TEST.BOOTSTRAP", "20"]
CONTENT = {
    "title": "Made",
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


@pytest.fixture
def start(tmp_path, shapes_root):
    """Start `tools/ablate.py` on a made sweep; its output folder is `tmp_path / "out"`."""

    def start(*arguments, content=None, **popen):
        sweep = tmp_path / "made.yaml"
        sweep.write_text(yaml.safe_dump(content or CONTENT, sort_keys=False))
        return subprocess.Popen(
            [
                *(sys.executable, "tools/ablate.py", "--sweep", str(sweep), "--gpus", "0"),
                *("--output-dir", str(tmp_path / "out"), *own_data(shapes_root)),
                *(*arguments, *SMALL),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **popen,
        )

    return start


@pytest.fixture
def run(start):
    def run(*arguments, **kwargs):
        process = start(*arguments, **kwargs)
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    return run


def folder(output, name):
    (found,) = (output / "runs").glob(f"{name}-seed1-*")
    return found


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)


def trainings(output, name):
    """Numbers of the processes that train a variant."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode().split("\0")
        except OSError:  # it has just ended
            continue
        if "submitit.core._submit" in command and str(folder(output, name) / "job") in command:
            found.append(int(path.parent.name))
    return found


def test_killed_failing_and_resumed(start, run, tmp_path):
    """One variant is killed, one fails, one is well; the next call mends what can be mended."""
    output = tmp_path / "out"
    failing = {**CONTENT["variants"], "diverges": {"set": {"SOLVER.BASE_LR": 1.0e30}}}
    content = {**CONTENT, "variants": failing}
    process = start(content=content)
    wait_for(lambda: list((output / "runs").glob("concat-*/model_0000001.pth")), process)
    for training in trainings(output, "concat"):
        os.kill(training, signal.SIGKILL)
    stdout, stderr = process.communicate()
    assert process.returncode == 1
    assert "concat seed 1: failed" in stdout
    assert "multiply seed 1: done" in stdout
    assert "diverges seed 1: failed" in stdout
    assert "FloatingPointError" in stderr.split("diverges seed 1 has failed; its job ")[1]
    assert stderr.strip().endswith("2 of 3 runs have failed; the same command tries them again")
    assert "Not finished: concat seed 1, diverges seed 1" in stdout  # the table of the others
    finished = folder(output, "multiply") / "result.json"
    before = finished.stat().st_mtime_ns

    del failing["diverges"]
    code, stdout, stderr = run(content=content)
    assert code == 0, stderr
    assert "multiply seed 1: running" not in stdout
    assert finished.stat().st_mtime_ns == before
    log = (folder(output, "concat") / "log.txt").read_text()
    started = [int(n) for n in re.findall(r"Starting training from iteration (\d+)", log)]
    assert started[0] == 0
    assert started[1] > 0  # it went on
    results = json.loads((output / "results.json").read_text())
    assert results["missing"] == []
    assert results["variants"]["concat"]["runs"][0]["steps"] == STEPS
    table = (output / "table.md").read_text()
    assert "| concat" in table
    assert "| multiply" in table

    # --report-only makes the same files from what is there.
    for name in ("results.json", "table.md", "results.csv"):
        (output / name).unlink()
    code, stdout, stderr = run("--report-only", content=content)
    assert code == 0, stderr
    assert (output / "table.md").read_text() == table
    again = json.loads((output / "results.json").read_text())
    assert again["variants"] == results["variants"]


def test_every_run_fails(run, tmp_path):
    """Each says why, and no table is missed."""
    variants = {"concat": {"set": {"SOLVER.BASE_LR": 1.0e30}}}
    code, _, stderr = run(content={**CONTENT, "variants": variants})
    assert code == 1
    assert "concat seed 1 has failed; its job " in stderr
    assert "FloatingPointError" in stderr
    assert stderr.strip().endswith("1 of 1 runs have failed; the same command tries them again")
    assert not (tmp_path / "out" / "table.md").exists()


def test_report_without_the_data_says_so(tmp_path):
    """Runs are found by their data."""
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


def test_heads_alone_share_boxes_and_masks(run, tmp_path):
    variants = {
        "concat": {},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    content = {**CONTENT, "variants": variants}
    content["report"] = {"AP": "segm_mask_score/AP", "mae": "maskiou/mae"}
    code, stdout, stderr = run("--head-only", "--slots", "2", content=content)
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


def test_interrupted_sweep_leaves_nothing_running(start, tmp_path):
    output = tmp_path / "out"
    process = start()
    wait_for(lambda: list((output / "runs").glob("concat-*/model_0000000.pth")), process)
    assert trainings(output, "concat")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert stderr == "error: interrupted: the same command goes on from here\n"
    assert not trainings(output, "concat")


def test_dry_run_writes_nothing(run, tmp_path):
    content = {**CONTENT, "variants": {"concat": {}}}
    code, stdout, stderr = run("--dry-run", "--head-only", content=content)
    assert code == 0, stderr
    assert re.search(r"concat +1 +0 +2 x 2 +\d+\.\d+ +0:00:\d+", stdout)
    assert "Training: about 0:00:" in stdout
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_one_line(run, tmp_path):
    wrong = {"concat": {}, "wrong": {"set": {"MODEL.MASKIOU_HEAD.INPUT": "concat"}}}
    code, _, stderr = run(content={**CONTENT, "variants": wrong})
    assert code == 1
    assert stderr.startswith("error: sweep ")
    assert "variant 'wrong'" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_sweep_on_slurm(run, tmp_path):
    path = add_slurm(tmp_path, os.environ["PATH"])
    code, stdout, stderr = run(
        *("--launcher", "slurm", "--partition", "long", "--time", "60"),
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


def test_a_slurm_job_whose_time_is_up_goes_on(start, tmp_path):
    path = add_slurm(tmp_path, os.environ["PATH"])
    output = tmp_path / "out"
    content = {**CONTENT, "variants": {"concat": CONTENT["variants"]["concat"]}}
    environment = {**os.environ, "PATH": path}
    process = start("--launcher", "slurm", content=content, env=environment)
    wait_for(lambda: list((output / "runs").glob("concat-*/model_0000001.pth")), process)
    for training in trainings(output, "concat"):
        os.kill(training, signal.SIGUSR2)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "concat seed 1: done" in stdout
    assert (tmp_path / "slurm" / "scontrol.txt").read_text().startswith("requeue ")
    log = (folder(output, "concat") / "log.txt").read_text()
    first, second = (int(n) for n in re.findall(r"Starting training from iteration (\d+)", log))
    assert first == 0 < second


def test_numbers_are_checked(run):
    code, _, stderr = run("--slots", "0")
    assert code == 2
    assert "'0' is no whole number from 1" in stderr
