"""Starts the runs of a plan one after the other until all are finished or have failed."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..errors import Interrupted, UserError
from .job import RunJob, create_folder
from .launcher import Job, JobState, Launcher
from .plan import Plan, Run

LOG_LINES = 12  # of a failed run, shown to the user
POLL_SECONDS = 0.5
LATE_SECONDS = 60.0  # how long to wait for the result of a job that ended without an error


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class State:
    """The state of a run.

    Attributes:
        run: a run of the plan.
        status: see :class:`Status`.
        job: its job, once it was started.
        reason: why it failed, with the end of its log.
        ended: when the job was first seen to have ended, in seconds of the monotonic clock.
    """

    run: Run
    status: Status = Status.WAITING
    job: Job | None = None
    reason: str = ""
    ended: float | None = None

    def fail(self, reason: str) -> None:
        self.status, self.reason = Status.FAILED, reason


def run_all(
    plan: Plan, launcher: Launcher, show: Callable[[list[State]], None], command: str
) -> list[State]:
    """Runs what is not finished yet; a failed run does not stop the others.

    An interrupted run resumes from its last checkpoint. If this process is interrupted, local jobs
    are stopped; Slurm jobs keep running, and a later call waits for them.

    Args:
        plan: the plan of a sweep.
        launcher: starts the jobs.
        show: called repeatedly with the states of all runs.
        command: command line of the sweep, for the record.

    Returns:
        The final state of every run.

    Raises:
        Interrupted: on Ctrl-C, or if the process is told to exit; says what happened to the jobs.
    """
    states = [State(run) for run in plan.runs]
    try:
        while True:
            for state in states:
                _advance(state, states, plan, launcher, command)
            show(states)
            if all(state.status in (Status.DONE, Status.FAILED) for state in states):
                return states
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(number, launcher.stop()) from error
    except BaseException:
        launcher.stop()
        raise


def _advance(
    state: State, states: list[State], plan: Plan, launcher: Launcher, command: str
) -> None:
    if state.status is Status.RUNNING:
        _poll(state)
    elif state.status is Status.WAITING:
        if state.run.finished:  # earlier, or by another sweep in the meantime
            state.status = Status.DONE
        elif state.run.start is None:
            _start(state, plan, launcher, command)
        else:
            (start,) = (each for each in states if each.run.digest == state.run.start.digest)
            if start.status is Status.DONE:
                _start(state, plan, launcher, command)
            elif start.status is Status.FAILED:
                state.fail(f"{start.run.title} has failed")


def _start(state: State, plan: Plan, launcher: Launcher, command: str) -> None:
    if not launcher.has_place():
        return
    run = state.run
    job = RunJob(run, plan.train_data, plan.val_data, launcher.num_gpus, launcher.threads, command)
    try:
        create_folder(run)
        state.job = launcher.submit(job, run.folder / "job", run.name)
        state.status = Status.RUNNING
    except (UserError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        state.fail(f"its job could not be started: {error}")


def _poll(state: State) -> None:
    how = state.job.state()
    if how is JobState.RUNNING:
        return
    if state.run.finished:
        state.status = Status.DONE
        return
    if state.ended is None:
        state.ended = time.monotonic()
    # A network disk may show the result late.
    if how is not JobState.SUCCEEDED or time.monotonic() > state.ended + LATE_SECONDS:
        state.fail(_reason(state.job, how))


def _reason(job: Job, how: JobState) -> str:
    """Returns why a job has left no result, with the end of its log."""
    what = f"its job {job.job_id} left no result: it {how.value}"
    if how is JobState.KILLED:
        what += f" ({job.cause()})"
    for path in job.logs:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            return "\n".join([f"{what}; the end of {path}:", *lines[-LOG_LINES:]])
    return f"{what}; its logs in {job.logs[0].parent} are empty"
