import os
import signal

import pytest
from fake_slurm import add_slurm
from waiting import wait_for, written

from msrcnn.ablation.launcher import JobState
from msrcnn.ablation.slurm_launcher import SlurmLauncher
from msrcnn.errors import UserError


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Puts the commands of a one-machine cluster into the path; the folder of their records."""
    monkeypatch.setenv("PATH", add_slurm(tmp_path, os.environ["PATH"]))
    return tmp_path / "slurm"


def script_of(slurm):
    """The script of the only job."""
    (script,) = slurm.glob("*.sh")
    return script.read_text()


def state(launcher, job):
    """The state of a job, asked for as often as it takes to be sure."""
    for _ in range(3):
        launcher.queue.next_query = 0.0  # do not wait
        answer = job.state()
    return answer


def result(job):
    """What the function of a job has printed, once it has ended."""
    wait_for(lambda: job.state() is not JobState.RUNNING)
    assert job.state() is JobState.SUCCEEDED
    return job.logs[1].read_text()


@pytest.fixture
def sleeper(tmp_path):
    """A function that does not end, and the file where it leaves its process id."""
    pid_file = tmp_path / "pid"

    def sleep():
        pid_file.write_text(str(os.getpid()))
        while True:  # a signal interrupts the pause
            signal.pause()

    return sleep, pid_file


def kill(pid_file):
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_slurm_job_with_its_parameters(slurm, tmp_path):
    launcher = SlurmLauncher(gpus=4, options=["partition=long", "time=90"])
    job = launcher.submit(lambda: print("the result"), tmp_path / "job", "concat")
    assert "the result" in result(job)
    script = script_of(slurm)
    for line in (
        *("--gpus-per-node=4", "--partition=long", "--time=90", "--job-name=concat"),
        *("--cpus-per-task=32", "--nodes=1"),
    ):
        assert f"#SBATCH {line}" in script


def test_slurm_job_without_gpus(slurm, tmp_path):
    job = SlurmLauncher(gpus=0).submit(lambda: print("the result"), tmp_path / "job", "x")
    assert "the result" in result(job)
    assert "--gpus" not in script_of(slurm)


def test_slurm_job_that_fails(slurm, tmp_path):
    def failing():
        raise ValueError("sample")

    job = SlurmLauncher(gpus=0).submit(failing, tmp_path / "job", "x")
    wait_for(lambda: job.state() is JobState.FAILED)
    wait_for(lambda: "ValueError: sample" in job.logs[0].read_text())


def test_slurm_job_whose_time_is_up_is_put_back_into_the_queue(slurm, sleeper, tmp_path):
    function, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    job = launcher.submit(function, tmp_path / "job", "x")
    wait_for(lambda: written(pid_file))
    first = pid_file.read_text()
    os.kill(int(first), signal.SIGUSR2)  # as Slurm does before the end
    wait_for(lambda: pid_file.read_text() not in ("", first))  # it runs again
    assert (slurm / "scontrol.txt").read_text() == f"requeue {job.job_id}\n"
    assert state(launcher, job) is JobState.RUNNING
    kill(pid_file)


def test_slurm_job_that_was_killed_is_noticed(slurm, sleeper, tmp_path):
    function, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    job = launcher.submit(function, tmp_path / "job", "x")
    wait_for(lambda: written(pid_file))
    assert state(launcher, job) is JobState.RUNNING
    kill(pid_file)
    wait_for(lambda: state(launcher, job) is JobState.KILLED)
    assert job.cause() == "Slurm reports FAILED"
    assert "scancel" not in launcher.stop()


def test_if_slurm_does_not_answer_no_job_is_given_up(slurm, sleeper, tmp_path):
    function, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    job = launcher.submit(function, tmp_path / "job", "x")
    wait_for(lambda: written(pid_file))
    squeue = tmp_path / "bin" / "squeue"
    answer = squeue.read_text()
    squeue.write_text("#!/bin/sh\nexit 1\n")
    kill(pid_file)
    assert state(launcher, job) is JobState.RUNNING
    again = SlurmLauncher(gpus=0).submit(function, tmp_path / "job", "x")
    assert again.job_id == job.job_id  # it may still be running
    squeue.write_text(answer)
    wait_for(lambda: state(launcher, job) is JobState.KILLED)


def test_slurm_job_of_an_interrupted_sweep_is_found_again(slurm, sleeper, tmp_path, capsys):
    function, pid_file = sleeper
    first = SlurmLauncher(gpus=0)
    job = first.submit(function, tmp_path / "job", "x")
    wait_for(lambda: written(pid_file))
    assert first.stop().endswith(f"(scancel {job.job_id})")
    second = SlurmLauncher(gpus=0)
    again = second.submit(function, tmp_path / "job", "x")
    assert again.job_id == job.job_id
    assert len(list(slurm.glob("*.sh"))) == 1
    assert f"'scancel {again.job_id}' and this command again" in capsys.readouterr().err
    kill(pid_file)
    wait_for(lambda: state(second, again) is JobState.KILLED)
    pid_file.unlink()
    after = SlurmLauncher(gpus=0).submit(function, tmp_path / "job", "x")
    assert after.job_id != job.job_id
    wait_for(lambda: written(pid_file))
    kill(pid_file)


def test_a_machine_without_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no 'srun' here"):
        SlurmLauncher()
