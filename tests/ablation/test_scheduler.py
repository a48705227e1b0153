"""The order of runs, with jobs that end as soon as they start."""

import dataclasses
import io
import math
import signal

import pytest
from rich.console import Console
from sample_sweeps import custom_data, finish, write_sweep

from msrcnn.ablation import display, load_sweep, make_plan, run_all, scheduler
from msrcnn.ablation.display import Display
from msrcnn.ablation.job import create_folder
from msrcnn.ablation.launcher import Job, JobState, Launcher
from msrcnn.ablation.scheduler import Status
from msrcnn.errors import Interrupted, UserError


class FakeJob(Job):
    """A job that has ended; `launcher.busy` counts those of which the scheduler does not know."""

    def __init__(self, launcher, folder, state):
        self.job_id, self.logs = str(folder), (folder / "err", folder / "out")
        self._launcher, self._state, self._seen = launcher, state, False

    def state(self):
        self._launcher.busy -= not self._seen
        self._seen = True
        return self._state


class FakeLauncher(Launcher):
    """Starts no process; runs in `failing` leave a log, the others a result."""

    num_gpus, threads = 0, 1
    how = JobState.KILLED  # a failing run

    def __init__(self, plan, places=1, failing=(), interrupt_at=None):
        self.plan, self.places = plan, places
        self.failing, self.interrupt_at = failing, interrupt_at
        self.started, self.busy, self.most, self.stopped = [], 0, 0, False

    def has_place(self):
        return self.busy < self.places

    def submit(self, job, folder, name):
        run = job.run
        self.started.append(run.title)
        self.busy += 1
        self.most = max(self.most, self.busy)
        if run.title == self.interrupt_at:
            raise KeyboardInterrupt
        folder.mkdir(parents=True)
        if run.title in self.failing:
            (folder / "err").write_text("".join(f"line {i}\n" for i in range(50)))
            return FakeJob(self, folder, self.how)
        finish(run, 30.0)
        return FakeJob(self, folder, JobState.SUCCEEDED)

    def stop(self):
        self.stopped = True
        return "sample"


@pytest.fixture
def plan(tmp_path, shapes_root, monkeypatch):
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(scheduler, "LATE_SECONDS", math.inf)
    monkeypatch.setattr(display, "LINE_SECONDS", math.inf)

    def plan(head_only=False):
        sweep = load_sweep(write_sweep(tmp_path, seeds=[1, 2]))
        data = custom_data(shapes_root)
        return make_plan(sweep, "full", tmp_path / "runs", head_only=head_only, **data)

    return plan


def statuses(states):
    return {state.run.title: state.status for state in states}


def test_all_run_and_places_are_kept(plan):
    planned = plan()
    launcher = FakeLauncher(planned, places=2)
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert set(statuses(states).values()) == {Status.DONE}
    assert launcher.started == [run.title for run in planned.runs]
    assert launcher.most == 2


def test_what_is_finished_is_not_run_again(plan):
    planned = plan()
    finish(planned.variants["multiply"][1], 30.0)
    launcher = FakeLauncher(planned)
    run_all(planned, launcher, lambda states: None, "sample")
    assert "multiply seed 1" not in launcher.started
    assert len(launcher.started) == 3


def test_others_go_on_when_one_fails_and_its_log_is_shown(plan):
    planned = plan()
    launcher = FakeLauncher(planned, failing=["concat seed 1"])
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert statuses(states).pop("concat seed 1") is Status.FAILED
    assert list(statuses(states).values()).count(Status.DONE) == 3
    reason = states[0].reason
    assert "was killed (perhaps it ran out of memory); the end of" in reason.splitlines()[0]
    assert reason.splitlines()[-1] == "line 49"
    assert len(reason.splitlines()) == 13


def test_a_run_that_ended_with_an_error_was_not_killed(plan):
    planned = plan()
    launcher = FakeLauncher(planned, failing=["concat seed 1"])
    launcher.how = JobState.FAILED
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert "ended with an error; the end of" in states[0].reason


def test_two_sweeps_at_once_share_a_run_under_two_names(plan, tmp_path):
    """Both are planned before either has begun."""
    mine = plan().variants["concat"][1]
    theirs = dataclasses.replace(mine, name="full")
    assert mine.folder != theirs.folder
    create_folder(theirs)
    create_folder(mine)
    assert mine.folder == theirs.folder
    assert [path.name for path in (tmp_path / "runs").glob("*-*")] == [theirs.folder.name]


@pytest.mark.parametrize("error", [RuntimeError("no room"), UserError("no room")])
def test_a_run_that_cannot_be_started_is_one_that_failed(error, plan):
    planned = plan()
    launcher = FakeLauncher(planned)

    def submit(job, folder, name):
        if len(launcher.started) == 1:
            launcher.started.append("refused")
            raise error
        return FakeLauncher.submit(launcher, job, folder, name)

    launcher.submit = submit
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert [state.status for state in states].count(Status.DONE) == 3
    assert states[1].reason == "its job could not be started: no room"


def test_a_run_whose_folder_cannot_be_written_is_one_that_failed(plan):
    planned = plan()
    planned.runs[1].folder.parent.mkdir()
    planned.runs[1].folder.touch()  # a file in its place
    states = run_all(planned, FakeLauncher(planned), lambda states: None, "sample")
    assert [state.status for state in states].count(Status.DONE) == 3
    assert states[1].reason.startswith("its job could not be started: ")


def late(launcher, monkeypatch):
    """Hides the result of the first job until its state was asked for twice."""
    states = []

    def state(job):
        states.append(job)
        result, hidden = (job.logs[0].parent.parent / name for name in ("result.json", "hidden"))
        if len(states) == 1:
            result.rename(hidden)
        elif hidden.exists():
            hidden.rename(result)
        return JobState.SUCCEEDED

    monkeypatch.setattr(FakeJob, "state", state)
    launcher.has_place = lambda: True
    return states


def test_a_result_that_appears_late_is_not_a_failure(plan, monkeypatch):
    """The run's folder may be on a network disk."""
    planned = plan()
    launcher = FakeLauncher(planned)
    looks = late(launcher, monkeypatch)
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert set(statuses(states).values()) == {Status.DONE}
    assert looks.count(looks[0]) == 2


def test_a_result_that_never_appears_is_a_failure(plan, monkeypatch):
    monkeypatch.setattr(scheduler, "LATE_SECONDS", -1.0)
    planned = plan()
    launcher = FakeLauncher(planned)
    late(launcher, monkeypatch)
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert states[0].status is Status.FAILED
    assert "left no result: it ended without an error; its logs in " in states[0].reason


def test_heads_wait_for_their_detector(plan):
    planned = plan(head_only=True)
    launcher = FakeLauncher(planned, places=9)
    run_all(planned, launcher, lambda states: None, "sample")
    assert launcher.started[0] == "mask_rcnn seed 1"
    assert launcher.most == 4


def test_without_a_detector_no_head_is_trained(plan):
    planned = plan(head_only=True)
    launcher = FakeLauncher(planned, failing=["mask_rcnn seed 1"])
    states = run_all(planned, launcher, lambda states: None, "sample")
    assert launcher.started == ["mask_rcnn seed 1"]
    assert {state.reason for state in states[1:]} == {"mask_rcnn seed 1 has failed"}


def test_an_interrupted_sweep_stops_its_jobs(plan):
    planned = plan()
    launcher = FakeLauncher(planned, places=3, interrupt_at="concat seed 2")
    with pytest.raises(Interrupted) as raised:
        run_all(planned, launcher, lambda states: None, "sample")
    assert launcher.stopped
    assert (raised.value.number, raised.value.note) == (signal.SIGINT, launcher.stop())


def test_display_off_a_terminal_is_a_line_for_each_change(plan):
    planned = plan()
    output = io.StringIO()
    with Display("AP", "segm_mask_score/AP", Console(file=output)) as display:
        run_all(planned, FakeLauncher(planned, failing=["multiply seed 2"]), display, "sample")
    lines = output.getvalue().splitlines()
    assert lines[:2] == ["concat seed 1: running", "concat seed 1: done, AP 30.00 (1 of 4 done)"]
    assert lines[-1] == "multiply seed 2: failed"
    assert len(lines) == 8


def test_display_on_a_terminal_is_a_table_with_progress(plan):
    planned = plan()
    run = planned.runs[1]
    run.folder.mkdir(parents=True)
    log = '{"iteration": 1, "total_loss": 0.5, "time": 30.0}\n{"bbox/AP": 3}\n{"iterat'
    (run.folder / "metrics.json").write_text(log)
    finish(planned.runs[0], 31.5)
    states = [scheduler.State(each) for each in planned.runs]
    states[0].status, states[1].status = Status.DONE, Status.RUNNING
    states[2].status = Status.FAILED
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, color_system=None, width=80)
    with Display("AP", "segm_mask_score/AP", console) as display:
        display(states)
    text = output.getvalue()
    assert "31.50" in text
    assert "2/4" in text
    assert "0.5000" in text
    assert "0:01:00" in text
    assert "failed" in text
    assert "1 of 4 done" in text
