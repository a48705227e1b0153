"""The order of runs, with jobs that are over as soon as they are begun."""

import dataclasses
import io
from types import SimpleNamespace

import pytest
from made_sweeps import finish, own_data, write_sweep
from rich.console import Console

from msrcnn.ablation import load_sweep, make_plan, run_all, scheduler
from msrcnn.ablation.display import Display
from msrcnn.ablation.job import prepare
from msrcnn.ablation.launcher import Launcher
from msrcnn.ablation.scheduler import Status
from msrcnn.errors import UserError


class FakeJob:
    def __init__(self, folder):
        self.job_id = str(folder)
        self.paths = SimpleNamespace(
            folder=folder,
            stderr=folder / "err",
            stdout=folder / "out",
            result_pickle=folder / "result.pkl",
        )

    def exception(self):
        return RuntimeError("made") if (self.paths.stderr).exists() else None


class FakeLauncher(Launcher):
    """Runs nothing; `outcome` says by title whether a run leaves a result."""

    num_gpus, threads = 0, 1
    raising = ()

    def __init__(self, plan, places=1, failing=(), interrupt_at=None):
        self.plan, self.places = plan, places
        self.failing, self.interrupt_at = failing, interrupt_at
        self.started, self.busy, self.most, self.stopped = [], 0, 0, False

    def has_place(self):
        return self.busy < self.places

    def submit(self, job, folder, name):
        run = next(run for run in self.plan.runs if run.folder == job.folder)
        self.started.append(run.title)
        self.busy += 1
        self.most = max(self.most, self.busy)
        if run.title == self.interrupt_at:
            raise KeyboardInterrupt
        folder.mkdir(parents=True)
        if run.title in self.failing:
            if run.title in self.raising:
                (folder / "result.pkl").touch()
            (folder / "err").write_text("".join(f"line {i}\n" for i in range(50)))
        else:
            finish(run, 30.0)
        return FakeJob(folder)

    def is_done(self, job):
        return True

    def release(self, job):
        self.busy -= 1

    def stop(self):
        self.stopped = True
        return "made"


@pytest.fixture
def plan(tmp_path, shapes_root, monkeypatch):
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.0)

    def plan(head_only=False):
        sweep = load_sweep(write_sweep(tmp_path, seeds=[1, 2]))
        data = own_data(shapes_root)
        return make_plan(
            *(sweep, sweep.protocols["full"], tmp_path / "runs"),
            head_only=head_only,
            arguments=data,
        )

    return plan


def statuses(states):
    return {state.run.title: state.status for state in states}


def test_all_run_and_places_are_kept(plan):
    made = plan()
    launcher = FakeLauncher(made, places=2)
    states = run_all(made, launcher, lambda states: None, "made")
    assert set(statuses(states).values()) == {Status.DONE}
    assert launcher.started == [run.title for run in made.runs]
    assert launcher.most == 2


def test_what_is_finished_is_not_run_again(plan):
    made = plan()
    finish(made.variants["multiply"][1], 30.0)
    launcher = FakeLauncher(made)
    run_all(made, launcher, lambda states: None, "made")
    assert "multiply seed 1" not in launcher.started
    assert len(launcher.started) == 3


def test_others_go_on_when_one_fails_and_its_log_is_shown(plan):
    made = plan()
    launcher = FakeLauncher(made, failing=["concat seed 1"])
    states = run_all(made, launcher, lambda states: None, "made")
    assert statuses(states).pop("concat seed 1") is Status.FAILED
    assert list(statuses(states).values()).count(Status.DONE) == 3
    reason = states[0].reason
    assert "was killed, perhaps for want of memory; the end of" in reason.splitlines()[0]
    assert reason.splitlines()[-1] == "line 49"
    assert len(reason.splitlines()) == 13


def test_a_run_that_ended_with_an_error_was_not_killed(plan):
    made = plan()
    launcher = FakeLauncher(made, failing=["concat seed 1"])
    launcher.raising = ["concat seed 1"]
    states = run_all(made, launcher, lambda states: None, "made")
    assert "ended with an error; the end of" in states[0].reason


def test_two_sweeps_at_once_share_a_run_under_two_names(plan, tmp_path):
    """Both are planned before either has begun."""
    mine = plan().variants["concat"][1]
    theirs = dataclasses.replace(mine, name="full")
    assert mine.folder != theirs.folder
    prepare(theirs)
    prepare(mine)
    assert mine.folder == theirs.folder
    assert [path.name for path in (tmp_path / "runs").glob("*-*")] == [theirs.folder.name]


def test_a_run_that_cannot_be_started_is_one_that_failed(plan):
    made = plan()
    launcher = FakeLauncher(made)

    def submit(job, folder, name):
        if len(launcher.started) == 1:
            launcher.started.append("refused")
            raise RuntimeError("too many jobs")
        return FakeLauncher.submit(launcher, job, folder, name)

    launcher.submit = submit
    states = run_all(made, launcher, lambda states: None, "made")
    assert [state.status for state in states].count(Status.DONE) == 3
    assert states[1].reason == "it could not be started: too many jobs"


def test_a_result_that_is_seen_late_is_no_failure(plan, monkeypatch):
    """The run's folder may be on another machine, and shown as it was a while ago."""
    made = plan()
    launcher = FakeLauncher(made)
    looks = []

    def is_done(job):
        looks.append(job)
        result = job.paths.folder.parent / "result.json"
        hidden = job.paths.folder.parent / "hidden"
        job.paths.result_pickle.touch()
        if len(looks) == 1:
            result.rename(hidden)
        elif hidden.exists():
            hidden.rename(result)
        return True

    launcher.is_done = is_done
    states = run_all(made, launcher, lambda states: None, "made")
    assert set(statuses(states).values()) == {Status.DONE}
    assert looks[0] is looks[1]


def test_heads_wait_for_their_detector(plan):
    made = plan(head_only=True)
    launcher = FakeLauncher(made, places=9)
    run_all(made, launcher, lambda states: None, "made")
    assert launcher.started[0] == "mask_rcnn seed 1"
    assert launcher.most == 4


def test_without_a_detector_no_head_is_trained(plan):
    made = plan(head_only=True)
    launcher = FakeLauncher(made, failing=["mask_rcnn seed 1"])
    states = run_all(made, launcher, lambda states: None, "made")
    assert launcher.started == ["mask_rcnn seed 1"]
    assert {state.reason for state in states[1:]} == {"mask_rcnn seed 1 has failed"}


def test_an_interrupted_sweep_stops_its_jobs(plan):
    made = plan()
    launcher = FakeLauncher(made, places=3, interrupt_at="concat seed 2")
    with pytest.raises(UserError, match="interrupted: made"):
        run_all(made, launcher, lambda states: None, "made")
    assert launcher.stopped


def test_display_off_a_terminal_is_a_line_for_each_change(plan):
    made = plan()
    output = io.StringIO()
    with Display("AP", "segm_mask_score/AP", Console(file=output)) as display:
        run_all(made, FakeLauncher(made, failing=["multiply seed 2"]), display, "made")
    lines = output.getvalue().splitlines()
    assert lines[:2] == ["concat seed 1: running", "concat seed 1: done, AP 30.00 (1 of 4 done)"]
    assert lines[-1] == "multiply seed 2: failed"
    assert len(lines) == 8


def test_display_on_a_terminal_is_a_table_with_progress(plan):
    made = plan()
    run = made.runs[1]
    run.folder.mkdir(parents=True)
    log = '{"iteration": 1, "total_loss": 0.5, "time": 30.0}\n{"bbox/AP": 3}\n{"iterat'
    (run.folder / "metrics.json").write_text(log)
    finish(made.runs[0], 31.5)
    states = [scheduler.State(each) for each in made.runs]
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
