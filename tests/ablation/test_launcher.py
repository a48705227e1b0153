import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from fake_slurm import add_slurm
from submitit.helpers import DelayedSubmission

from msrcnn.ablation.launcher import LocalLauncher, SlurmLauncher, visible_gpus
from msrcnn.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that there are so many GPUs."""

    def gpus(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return gpus


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def test_gpus_are_counted_as_the_user_may_see_them(gpus):
    gpus(4)
    assert visible_gpus() == [0, 1, 2, 3]
    gpus(2, "5, 7")
    assert visible_gpus() == [5, 7]
    gpus(0, "")
    assert visible_gpus() == []
    gpus(1, "GPU-3f2a")
    with pytest.raises(UserError, match="'GPU-3f2a': to share out GPUs"):
        visible_gpus()


@pytest.mark.parametrize(
    ("count", "arguments", "expected"),
    [
        (4, {}, (4, 1)),
        (4, {"gpus": 2}, (2, 2)),
        (5, {"gpus": 2}, (2, 2)),
        (4, {"slots": 3}, (3, 1)),
        (0, {}, (1, 0)),
        (0, {"slots": 2}, (2, 0)),
        (4, {"gpus": 0}, (1, 0)),
    ],
)
def test_places(count, arguments, expected, gpus):
    gpus(count)
    launcher = LocalLauncher(**arguments)
    assert (launcher.places, launcher.num_gpus) == expected
    assert (launcher.threads is None) == (launcher.num_gpus > 0)


def test_more_than_there_is(gpus):
    gpus(2)
    with pytest.raises(UserError, match="--gpus 4, but this machine has 2"):
        LocalLauncher(gpus=4)
    with pytest.raises(UserError, match="--slots 3 x 1 GPUs, but there are 2"):
        LocalLauncher(slots=3)


def test_cpu_threads_are_shared_out(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert LocalLauncher().threads == 8
    assert LocalLauncher(slots=3).threads == 2
    assert LocalLauncher(slots=20).threads == 1


def test_jobs_at_once_have_gpus_of_their_own(gpus, tmp_path):
    """Real jobs of submitit, which see what they were given."""
    gpus(4, "2,3,6,7")
    launcher = LocalLauncher(gpus=2)

    def job():
        return os.environ["CUDA_VISIBLE_DEVICES"]

    first, second = (launcher.submit(job, tmp_path / name, name) for name in "ab")
    assert not launcher.has_place()
    assert [first.result(), second.result()] == ["2,3", "6,7"]
    wait_for(lambda: launcher.is_done(first))
    launcher.release(first)
    assert launcher.has_place()
    third = launcher.submit(job, tmp_path / "c", "c")
    assert third.result() == "2,3"
    for each in (second, third):
        launcher.release(each)


def test_stopping_ends_the_jobs(gpus, tmp_path):
    gpus(0)
    launcher = LocalLauncher()
    pid_file = tmp_path / "pid"

    def job():
        pid_file.write_text(str(os.getpid()))
        time.sleep(600)

    submitted = launcher.submit(job, tmp_path / "job", "job")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    assert "the same command" in launcher.stop()
    assert submitted.done()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def is_gone(pid):
    stat = Path("/proc", str(pid), "stat")
    return not stat.exists() or stat.read_text().rsplit(")")[1].split()[0] == "Z"


def test_stopping_ends_a_job_that_will_not_with_all_its_processes(gpus, tmp_path):
    """Ctrl-C at the terminal is for us alone: two of them would break submitit's own end."""
    gpus(0)
    launcher = LocalLauncher()
    pid_file = tmp_path / "pid"

    def job():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])  # as the process of a second GPU
        pid_file.write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)

    submitted = launcher.submit(job, tmp_path / "job", "job")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    pids = [int(pid) for pid in pid_file.read_text().split()]
    assert {os.getsid(pid) for pid in pids} == {int(submitted.job_id)}
    assert int(submitted.job_id) != os.getsid(0)
    launcher.stop()
    wait_for(lambda: all(is_gone(pid) for pid in pids))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of a cluster of one machine, in the path; the folder of their records."""
    monkeypatch.setenv("PATH", add_slurm(tmp_path, os.environ["PATH"]))
    return tmp_path / "slurm"


def script_of(slurm):
    """What the only job was submitted with."""
    (script,) = slurm.glob("*.sh")
    return script.read_text()


def done(launcher, job):
    """Whether a job is done, asked as often as it takes to be sure."""
    for _ in range(3):
        launcher._next_question = 0.0  # at once
        answer = launcher.is_done(job)
    return answer


@pytest.fixture
def sleeper(tmp_path):
    """A job that lasts and can go on, and the file where it leaves its process id."""
    pid_file = tmp_path / "pid"

    class Sleeper:  # local, so that it is pickled by value: the job cannot import this file
        def __call__(self):
            pid_file.write_text(str(os.getpid()))
            time.sleep(600)

        def checkpoint(self):
            return DelayedSubmission(self)

    return Sleeper(), pid_file


def test_slurm_job_with_its_parameters(slurm, tmp_path):
    launcher = SlurmLauncher(gpus=4, partition="long", minutes=90)
    job = launcher.submit(lambda: 6 * 7, tmp_path / "job", "concat")
    assert job.result() == 42
    assert launcher.is_done(job)
    script = script_of(slurm)
    for line in (
        *("--gpus-per-node=4", "--partition=long", "--time=90", "--job-name=concat"),
        *("--cpus-per-task=32", "--nodes=1"),
    ):
        assert f"#SBATCH {line}" in script


def test_slurm_job_without_gpus(slurm, tmp_path):
    job = SlurmLauncher(gpus=0).submit(lambda: 1, tmp_path / "job", "x")
    assert job.result() == 1
    assert "--gpus" not in script_of(slurm)


def test_slurm_job_whose_time_is_up_is_put_back_into_the_queue(slurm, sleeper, tmp_path):
    job, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    job = launcher.submit(job, tmp_path / "job", "x")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    os.kill(int(pid_file.read_text()), signal.SIGUSR2)  # as Slurm does before the end
    first = pid_file.read_text()
    wait_for(lambda: pid_file.read_text() not in ("", first))  # it runs again
    assert (slurm / "scontrol.txt").read_text() == f"requeue {job.job_id}\n"
    assert not done(launcher, job)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_slurm_job_that_was_killed_is_noticed(slurm, sleeper, tmp_path):
    job, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    job = launcher.submit(job, tmp_path / "job", "x")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    assert not done(launcher, job)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    wait_for(lambda: done(launcher, job))
    assert launcher.cause(job) == ": Slurm says FAILED"


def test_a_silent_slurm_gives_no_job_up(slurm, sleeper, tmp_path):
    job, pid_file = sleeper
    launcher = SlurmLauncher(gpus=0)
    submitted = launcher.submit(job, tmp_path / "job", "x")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    squeue = tmp_path / "bin" / "squeue"
    answer = squeue.read_text()
    squeue.write_text("#!/bin/sh\nexit 1\n")
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert not done(launcher, submitted)
    again = SlurmLauncher(gpus=0).submit(job, tmp_path / "job", "x")
    assert again.job_id == submitted.job_id  # it may still be running
    squeue.write_text(answer)
    wait_for(lambda: done(launcher, submitted))


def test_slurm_job_of_an_interrupted_sweep_is_taken_up_again(slurm, sleeper, tmp_path, capsys):
    job, pid_file = sleeper
    first = SlurmLauncher(gpus=0)
    submitted = first.submit(job, tmp_path / "job", "x")
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    assert first.stop().endswith(f"scancel {submitted.job_id}")
    again = SlurmLauncher(gpus=0).submit(job, tmp_path / "job", "x")
    assert again.job_id == submitted.job_id
    assert len(list(slurm.glob("*.sh"))) == 1
    assert f"'scancel {again.job_id}' and this command again" in capsys.readouterr().err
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    wait_for(lambda: again.watcher.get_state(again.job_id, mode="force") == "FAILED")
    pid_file.unlink()
    after = SlurmLauncher(gpus=0).submit(job, tmp_path / "job", "x")
    assert after.job_id != submitted.job_id
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_no_slurm_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--launcher slurm: there is no 'srun' here"):
        SlurmLauncher()
