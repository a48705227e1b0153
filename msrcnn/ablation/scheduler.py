"""Runs of a plan, each on a place of its own, until all are finished or have failed."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import submitit

from ..errors import UserError
from .job import RunJob, prepare, start_weights
from .launcher import Launcher
from .plan import Plan, Run

LOG_LINES = 12  # of a failed run, shown to the user
POLL_SECONDS = 0.5
LATE_SECONDS = 60.0


class InterruptedSweepError(UserError):
    """The sweep was told to end; the message says what has become of its jobs."""


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class State:
    """Where a run stands.

    Attributes:
        run: of the plan.
        status: see :class:`Status`.
        job: submitit's, once it was started.
        reason: why it has failed: the end of its log.
        ended: when the job was first seen to have ended, in seconds of a monotonic clock.
    """

    run: Run
    status: Status = Status.WAITING
    job: submitit.Job | None = None
    reason: str = ""
    ended: float = 0.0


def run_all(
    plan: Plan, launcher: Launcher, show: Callable[[list[State]], None], command: str
) -> list[State]:
    """Run what is not finished yet; what fails does not stop the others.

    An interrupted run goes on from its last checkpoint. If this process is interrupted, the jobs
    on this machine are stopped; Slurm's go on, and a later call takes them up again.

    Args:
        plan: of a sweep.
        launcher: says where.
        show: called often with the states of all runs.
        command: for the record.

    Returns:
        The last state of every run.

    Raises:
        InterruptedSweepError: on Ctrl-C and where the process is told to exit.
    """
    states = [State(run, Status.DONE if run.finished else Status.WAITING) for run in plan.runs]
    try:
        while True:
            _start_waiting(states, plan, launcher, command)
            show(states)
            if not any(state.status in (Status.WAITING, Status.RUNNING) for state in states):
                return states
            time.sleep(POLL_SECONDS)
            for state in states:
                if state.status is Status.RUNNING:
                    _poll(state, launcher)
    except (KeyboardInterrupt, SystemExit) as error:
        raise InterruptedSweepError(f"interrupted: {launcher.stop()}") from error
    except BaseException:
        launcher.stop()
        raise


def _start_waiting(states: list[State], plan: Plan, launcher: Launcher, command: str) -> None:
    by_digest = {state.run.digest: state for state in states}
    for state in states:
        if state.status is not Status.WAITING:
            continue
        if state.run.finished:  # by another sweep meanwhile
            state.status = Status.DONE
            continue
        start = by_digest[state.run.start.digest] if state.run.start else None
        if start is not None and start.status is Status.FAILED:
            state.status, state.reason = Status.FAILED, f"{start.run.title} has failed"
        elif (start is None or start.status is Status.DONE) and launcher.has_place():
            prepare(state.run)
            job = RunJob(
                folder=state.run.folder,
                arguments=_data_arguments(plan),
                opts=start_weights(state.run),
                num_gpus=launcher.num_gpus,
                threads=launcher.threads,
                trains=state.run.trains,
                command=command,
            )
            try:
                state.job = launcher.submit(job, state.run.folder / "job", state.run.name)
                state.status = Status.RUNNING
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                state.status, state.reason = Status.FAILED, f"it could not be started: {error}"


def _data_arguments(plan: Plan) -> tuple[str, ...]:
    given = {f"--{key.replace('_', '-')}": value for key, value in plan.arguments.items() if value}
    return tuple(item for pair in given.items() for item in pair)


def _poll(state: State, launcher: Launcher) -> None:
    if not launcher.is_done(state.job):
        return
    # Of a folder on another machine the result may be seen later than submitit's own file.
    state.ended = state.ended or time.monotonic()
    late = state.job.paths.result_pickle.exists() and _ended_well(state.job)
    if not state.run.finished and late and time.monotonic() < state.ended + LATE_SECONDS:
        return
    launcher.release(state.job)
    if state.run.finished:
        state.status = Status.DONE
    else:
        state.status, state.reason = Status.FAILED, _reason(state.job, launcher)


def _ended_well(job: submitit.Job) -> bool:
    try:
        return job.exception() is None
    except Exception:  # whatever submitit makes of what a job that was killed has left
        return False


def _reason(job: submitit.Job, launcher: Launcher) -> str:
    """Why a job has left no result, and the end of its log."""
    if job.paths.result_pickle.exists():
        how = "ended with an error"
    else:
        how = f"was killed{launcher.cause(job)}"
    for path in (job.paths.stderr, job.paths.stdout):
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            ended = f"its job {job.job_id} {how}; the end of {path}:"
            return "\n".join([ended, *lines[-LOG_LINES:]])
    return f"its job {job.job_id} {how}; it has left no log in {job.paths.folder}"
