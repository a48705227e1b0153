"""Jobs of a sweep in Slurm, by submitit."""

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

from ..atomic_file import write_file
from ..errors import UserError
from .launcher import Job, JobState, Launcher

CPUS_PER_GPU = 8  # for the data loader
QUERY_SECONDS = 30  # between two queries of Slurm's queue
JOB_ID = "slurm_job"  # file in a job's folder with the number of the last job
REQUEUES = 100  # how often a job whose time is up is put back into the queue


class SlurmQueue:
    """The user's jobs that wait or run, according to Slurm's last two answers."""

    def __init__(self):
        self._answers: deque[set[str]] = deque(maxlen=2)
        self.next_query = 0.0

    def refresh(self) -> None:
        """Queries Slurm, but not too often."""
        if time.monotonic() >= self.next_query:
            self.next_query = time.monotonic() + QUERY_SECONDS
            answer = query_jobs()
            if answer is not None:
                self._answers.append(answer)

    def lacks(self, job_id: str) -> bool:
        """Returns whether a job has ended.

        It must be missing twice: Slurm may just have put it back into the queue, and a disk of
        another machine may show the job's result late.
        """
        return len(self._answers) == 2 and not any(job_id in answer for answer in self._answers)

    def forget(self) -> None:
        """Forgets the answers, which do not contain a job that has just been submitted."""
        self._answers.clear()


class SlurmJob(Job):
    def __init__(self, job: submitit.SlurmJob, queue: SlurmQueue):
        self._job, self._queue = job, queue
        self.job_id, self.logs = job.job_id, (job.paths.stderr, job.paths.stdout)

    @property
    def ended(self) -> bool:
        return self._job.paths.result_pickle.exists() or self._queue.lacks(self.job_id)

    def state(self) -> JobState:
        if not self._job.paths.result_pickle.exists():
            self._queue.refresh()
            return JobState.KILLED if self.ended else JobState.RUNNING
        try:
            return JobState.FAILED if self._job.exception() else JobState.SUCCEEDED
        except Exception:  # the result is damaged
            return JobState.FAILED

    def cause(self) -> str:
        return f"Slurm reports {self._job.watcher.get_state(self.job_id, mode='force')}"


@dataclass(frozen=True)
class _Resumable:
    """A function that submitit calls again in another job when the time of its job is up."""

    function: Callable[[], object]

    def __call__(self) -> object:
        return self.function()

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


class SlurmLauncher(Launcher):
    """Submits every job at once; Slurm decides when and where they run."""

    def __init__(self, *, gpus: int = 1, partition: str | None = None, minutes: int = 24 * 60):
        """
        Args:
            gpus: GPUs per job, on one machine.
            partition: Slurm's partition; ``None`` for its default.
            minutes: time limit of a job, which then resumes in another job.
        """
        if shutil.which("srun") is None:
            raise UserError("--launcher slurm: there is no 'srun' here; is this a Slurm cluster?")
        self.num_gpus = gpus
        self.queue = SlurmQueue()
        self._jobs: list[SlurmJob] = []
        self._parameters = {
            "time": minutes,
            "gpus_per_node": gpus or None,
            "cpus_per_task": CPUS_PER_GPU * max(gpus, 1),
            "partition": partition,
        }

    def has_place(self) -> bool:
        return True

    def submit(self, function: Callable[[], object], folder: Path, name: str) -> SlurmJob:
        job = _active_job(folder)
        if job is None:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
            executor.update_parameters(job_name=name, **self._parameters)
            job = executor.submit(_Resumable(function))
            write_file(folder / JOB_ID, job.job_id)
        self.queue.forget()
        self._jobs.append(SlurmJob(job, self.queue))
        return self._jobs[-1]

    def stop(self) -> str:
        jobs = " ".join(job.job_id for job in self._jobs if not job.ended)
        return f"the Slurm jobs keep running (scancel {jobs})" if jobs else ""


def _active_job(folder: Path) -> submitit.SlurmJob | None:
    """Returns the job of an earlier, interrupted sweep if Slurm still has it."""
    try:
        job = submitit.SlurmJob(folder, (folder / JOB_ID).read_text(), tasks=[0])
    except OSError:
        return None
    jobs = query_jobs()
    # If Slurm does not answer, assume that it is active: a run must not have two jobs.
    if job.paths.result_pickle.exists() or (jobs is not None and job.job_id not in jobs):
        return None
    print(
        f"{folder.parent.name}: Slurm still has job {job.job_id}, submitted by an earlier sweep "
        f"with its settings; to replace it, run 'scancel {job.job_id}' and this command again",
        file=sys.stderr,
    )
    return job


def query_jobs() -> set[str] | None:
    """Returns the numbers of the user's waiting and running jobs; ``None`` without an answer."""
    command = ["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split())
