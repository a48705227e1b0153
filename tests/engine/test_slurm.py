"""A single training in Slurm, by commands that answer like those of a cluster of one machine."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from fake_slurm import add_slurm
from waiting import wait_for

from msrcnn.cli import main
from msrcnn.engine import Processes
from msrcnn.engine.slurm import processes_of_job, slurm_parameters, submit, was_put_back
from msrcnn.errors import UserError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Puts the commands into the path; the folder of their records."""
    monkeypatch.setenv("PATH", add_slurm(tmp_path, os.environ["PATH"]))
    return tmp_path / "slurm"


def test_any_option_is_passed_on(slurm, tmp_path):
    options = ["partition=long", "time=90", "--qos=high", "account=vision", "mem=64G"]
    more = ["mail-type=END", "reservation=night", "cpus-per-task=3", "constraint=h100"]
    job = submit(lambda: "done", tmp_path / "job", "x", slurm_parameters(2, [*options, *more]))
    wait_for(job.paths.result_pickle.exists)
    assert job.result() == "done"
    (script,) = slurm.glob("*.sh")
    lines = script.read_text().splitlines()
    expected = [*options, *more, "gpus-per-node=2", "nodes=1", "job-name=x"]
    for option in expected:
        assert lines.count(f"#SBATCH --{option.lstrip('-')}") == 1, option
    assert sum(line.startswith("#SBATCH --cpus-per-task") for line in lines) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("partition", "give an option of sbatch as KEY=VALUE"),
        ("=long", "give an option of sbatch as KEY=VALUE"),
        ("time=1-00:00:00", "give the time limit in minutes"),
        ("nodes=2", "other arguments, or submitit, decide this"),
        ("gpus-per-node=2", "other arguments, or submitit, decide this"),
    ],
)
def test_options_that_cannot_be_passed_on(slurm, option, message):
    with pytest.raises(UserError, match=f"--slurm {option}: {message}"):
        slurm_parameters(1, [option])


def test_without_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no 'srun' here"):
        slurm_parameters(1, [])


def test_each_machine_of_a_job_knows_the_first(monkeypatch):
    environment = {
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_JOB_NODELIST": "gpu[03-04]",
        "SUBMITIT_EXECUTOR": "slurm",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes_of_job(8) == Processes(8, 2, 1, "tcp://gpu03:24567")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    assert processes_of_job(8) == Processes(8)


def test_restarts_are_noticed(monkeypatch):
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert not was_put_back()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert was_put_back()


@pytest.fixture
def command(shapes_root, tmp_path):
    """The command line of a training of a few steps, whose output folder is ``out``."""
    data = [
        f"{shapes_root}/annotations/instances_{split}.json:{shapes_root}/{split}"
        for split in ("train", "val")
    ]
    return [
        *("--config-file", "quick/smoke_ms_rcnn_R_18_FPN.yaml"),
        *("--train-data", data[0], "--val-data", data[1], "--slurm", "partition=long"),
        *("OUTPUT_DIR", str(tmp_path / "out"), "INPUT.MIN_SIZE_TRAIN", "(64,)"),
        *("INPUT.MIN_SIZE_TEST", "64", "TEST.BOOTSTRAP", "0", "SOLVER.CHECKPOINT_PERIOD", "2"),
    ]


@pytest.fixture
def run(monkeypatch):
    """Returns a function that runs ``msrcnn train``; its exit status."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["msrcnn train", *arguments])
        try:
            main("train")
        except SystemExit as end:
            return end.code
        return 0

    return run


@pytest.mark.slow
def test_training_is_submitted_and_resumes_when_its_time_is_up(
    slurm, run, command, tmp_path, monkeypatch, capsys
):
    hold = tmp_path / "hold"
    hold.touch()
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, time\n"
        "replace = pathlib.Path.replace\n"
        "def replace_and_wait(part, path):\n"
        "    result = replace(part, path)\n"
        f"    while path.name == 'last_checkpoint' and pathlib.Path({str(hold)!r}).exists():\n"
        "        time.sleep(0.02)\n"
        "    return result\n"
        "pathlib.Path.replace = replace_and_wait\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(*command) == 0
    job_id = re.search(r"Submitted Slurm job (\d+)", capsys.readouterr().out)[1]
    output = tmp_path / "out"
    wait_for((output / "last_checkpoint").exists)
    # A second submission would write into the same folder.
    assert run(*command) == 1
    assert f"Slurm still has job {job_id}" in capsys.readouterr().err
    processes = (slurm / f"{job_id}.pid").read_text()
    os.kill(_python_below(int(processes)), signal.SIGUSR2)  # as Slurm does before the end
    wait_for((slurm / "scontrol.txt").exists)
    hold.unlink()
    wait_for((output / "evaluation.json").exists)
    started = re.findall(
        r"Starting training from iteration (\d+)", (output / "log.txt").read_text()
    )
    assert started == ["0", "2"]


def _python_below(pid):
    """The first process below another that has no process below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return _python_below(int(children[0])) if children else pid


def test_mistakes_are_found_before_the_submission(slurm, run, command, capsys):
    assert run(*command, "SOLVER.MAX_ITER", "many") == 1
    assert "SOLVER.MAX_ITER" in capsys.readouterr().err
    assert not list(slurm.glob("*.sh"))
