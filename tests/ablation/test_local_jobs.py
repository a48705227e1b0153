import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from scripts import run_script
from waiting import wait_for, written

from msrcnn.ablation.launcher import JobState
from msrcnn.ablation.local_jobs import LocalLauncher, visible_gpus
from msrcnn.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are so many GPUs."""

    def gpus(count, visible=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return gpus


def has_ended(job):
    return job.state() is not JobState.RUNNING


def test_gpus_are_those_that_the_user_may_see(gpus):
    gpus(4)
    assert visible_gpus() == [0, 1, 2, 3]
    gpus(2, "5, 7")
    assert visible_gpus() == [5, 7]
    gpus(0, "")
    assert visible_gpus() == []
    gpus(1, "GPU-3f2a")
    with pytest.raises(UserError, match="'GPU-3f2a': it must list GPUs by number"):
        visible_gpus()


@pytest.mark.parametrize(
    ("count", "arguments", "expected"),
    [
        (1, {}, (1, 1)),
        (4, {}, (4, 1)),
        (4, {"gpus": 2}, (2, 2)),
        (5, {"gpus": 2}, (2, 2)),
        (4, {"slots": 3}, (3, 1)),
        (1, {"slots": 3}, (3, 1)),
        (0, {}, (1, 0)),
        (0, {"slots": 2}, (2, 0)),
        (4, {"gpus": 0}, (1, 0)),
    ],
)
def test_places(count, arguments, expected, gpus):
    gpus(count)
    launcher = LocalLauncher(**arguments)
    assert (launcher.places, launcher.num_gpus) == expected


def test_more_gpus_than_there_are(gpus):
    gpus(2)
    with pytest.raises(UserError, match="--gpus 4, but this machine has 2"):
        LocalLauncher(gpus=4)
    with pytest.raises(UserError, match="--slots 2 x 2 GPUs, but there are 2"):
        LocalLauncher(slots=2, gpus=2)


@pytest.mark.parametrize("count", [0, 1])
def test_threads_are_divided(count, gpus, monkeypatch):
    gpus(count)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert LocalLauncher().threads == (8 if count == 0 else None)
    assert LocalLauncher(slots=3).threads == 2
    assert LocalLauncher(slots=20).threads == 1


def test_jobs_with_gpus_of_their_own_have_pytorchs_threads(gpus):
    gpus(4)
    assert LocalLauncher(slots=4).threads is None
    assert LocalLauncher(gpus=2).threads is None


def test_concurrent_jobs_have_gpus_of_their_own(gpus, tmp_path):
    """Real processes, which see what they were given."""
    gpus(4, "2,3,6,7")
    launcher = LocalLauncher(gpus=2)
    go = tmp_path / "go"

    def job():
        print(os.environ["CUDA_VISIBLE_DEVICES"])
        while not go.exists():
            time.sleep(0.05)

    jobs = [launcher.submit(job, tmp_path / name, name) for name in "ab"]
    assert not launcher.has_place()
    go.touch()
    wait_for(lambda: all(map(has_ended, jobs)))
    assert launcher.has_place()
    jobs.append(launcher.submit(job, tmp_path / "c", "c"))
    wait_for(lambda: has_ended(jobs[-1]))
    assert [job.state() for job in jobs] == [JobState.SUCCEEDED] * 3
    assert [job.logs[1].read_text() for job in jobs] == ["2,3\n", "6,7\n", "2,3\n"]


def test_more_jobs_than_gpus_share_them(gpus, tmp_path):
    gpus(2, "3,5")
    launcher = LocalLauncher(slots=3)

    def job():
        print(os.environ["CUDA_VISIBLE_DEVICES"])

    jobs = [launcher.submit(job, tmp_path / name, name) for name in "abc"]
    wait_for(lambda: all(map(has_ended, jobs)))
    assert [job.logs[1].read_text() for job in jobs] == ["3\n", "5\n", "3\n"]


def test_how_a_job_ended(gpus, tmp_path):
    gpus(0)
    launcher = LocalLauncher(slots=2)

    def failing():
        raise ValueError("sample")

    def killed():
        os.kill(os.getpid(), signal.SIGKILL)

    jobs = [launcher.submit(job, tmp_path / job.__name__, "job") for job in (failing, killed)]
    wait_for(lambda: all(map(has_ended, jobs)))
    assert [job.state() for job in jobs] == [JobState.FAILED, JobState.KILLED]
    assert jobs[0].logs[0].read_text().endswith("ValueError: sample\n")


def test_an_error_of_the_user_is_one_line(gpus, tmp_path):
    """As that of a command."""
    gpus(0)

    def failing():
        raise UserError("'sample' is wrong: mend it")

    job = LocalLauncher().submit(failing, tmp_path / "job", "job")
    wait_for(lambda: has_ended(job))
    assert job.state() is JobState.FAILED
    assert job.logs[0].read_text() == "error: 'sample' is wrong: mend it\n"


def test_a_job_that_has_ended_is_not_killed(gpus, tmp_path, monkeypatch):
    """Its number may be that of another process by then."""
    gpus(0)
    launcher = LocalLauncher()
    submitted = launcher.submit(print, tmp_path / "job", "job")
    wait_for(lambda: has_ended(submitted))
    killed = []
    monkeypatch.setattr(os, "killpg", lambda *args: killed.append(args))
    launcher.stop()
    assert killed == []
    assert submitted.state() is JobState.SUCCEEDED


def test_a_job_leaves_no_processes(gpus, tmp_path):
    gpus(0)
    pid_file = tmp_path / "pid"

    def job():
        pid_file.write_text(str(subprocess.Popen(["sleep", "infinity"]).pid))

    submitted = LocalLauncher().submit(job, tmp_path / "job", "job")
    wait_for(lambda: has_ended(submitted))
    assert submitted.state() is JobState.SUCCEEDED
    wait_for(lambda: is_gone(int(pid_file.read_text())))


def test_stopping_ends_the_jobs(gpus, tmp_path):
    gpus(0)
    launcher = LocalLauncher()
    pid_file = tmp_path / "pid"

    def job():
        pid_file.write_text(str(os.getpid()))
        signal.pause()

    submitted = launcher.submit(job, tmp_path / "job", "job")
    wait_for(lambda: written(pid_file))
    assert launcher.stop() == ""  # nothing that the user has to do
    assert submitted.state() is JobState.KILLED
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def is_gone(pid):
    """Whether a process has ended; whoever inherited it may not have waited for it yet."""
    stat = Path("/proc", str(pid), "stat")
    try:
        return stat.read_text().rsplit(")")[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_stopping_ends_a_stubborn_job_with_all_its_processes(gpus, tmp_path):
    """Its session is its own: Ctrl-C at the terminal does not reach it."""
    gpus(0)
    launcher = LocalLauncher()
    pid_file = tmp_path / "pid"

    def job():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "infinity"])  # like the process of a second GPU
        pid_file.write_text(f"{os.getpid()} {child.pid}")
        signal.pause()

    submitted = launcher.submit(job, tmp_path / "job", "job")
    wait_for(lambda: written(pid_file))
    pids = [int(pid) for pid in pid_file.read_text().split()]
    assert {os.getsid(pid) for pid in pids} == {int(submitted.job_id)}
    assert int(submitted.job_id) != os.getsid(0)
    launcher.stop()
    wait_for(lambda: all(is_gone(pid) for pid in pids))


SCRIPT = """
import sys
from pathlib import Path

from msrcnn.ablation.local_jobs import LocalLauncher
from msrcnn.modeling import MASKIOU_LOSS_REGISTRY


@MASKIOU_LOSS_REGISTRY.register()
def loss_of_the_script(prediction, target, area): ...


def job():
    from msrcnn.modeling import MASKIOU_LOSS_REGISTRY

    print(MASKIOU_LOSS_REGISTRY.get("loss_of_the_script").__name__)


if __name__ == "__main__":
    launched = LocalLauncher(gpus=0).submit(job, Path(sys.argv[1]), "job")
    while launched.state().name == "RUNNING":
        pass
    print(launched.state().name, *(log.read_text() for log in launched.logs))
"""


def test_parts_that_a_script_registers_are_there_in_its_jobs(tmp_path):
    """As docs/extend.md promises for `python own_loss.py ablate`."""
    script = tmp_path / "own.py"
    script.write_text(SCRIPT)
    done = run_script(script, tmp_path / "job")
    assert done.stdout.split() == ["SUCCEEDED", "loss_of_the_script"], done.stdout + done.stderr
