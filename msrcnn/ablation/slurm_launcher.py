"""Jobs of a sweep in Slurm, by submitit."""

import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import submitit

from ..engine.slurm import active_job, query_jobs, slurm_parameters, submit
from .launcher import Job, JobState, Launcher

QUERY_SECONDS = 30  # between two queries of Slurm's queue


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


class SlurmLauncher(Launcher):
    """Submits every job at once; Slurm decides when and where they run."""

    def __init__(self, *, gpus: int = 1, options: Sequence[str] = ()):
        """
        Args:
            gpus: GPUs per job, on one machine.
            options: see :func:`~msrcnn.engine.slurm.slurm_parameters`.
        """
        self._parameters = slurm_parameters(gpus, options)
        self.num_gpus = gpus
        self.queue = SlurmQueue()
        self._jobs: list[SlurmJob] = []

    def has_place(self) -> bool:
        return True

    def submit(self, function: Callable[[], object], folder: Path, name: str) -> SlurmJob:
        job = active_job(folder)
        if job is None:
            job = submit(function, folder, name, self._parameters)
        else:
            print(
                f"{folder.parent.name}: Slurm still has job {job.job_id}, submitted by an earlier "
                f"sweep with its settings; to replace it, run 'scancel {job.job_id}' and this "
                "command again",
                file=sys.stderr,
            )
        self.queue.forget()
        self._jobs.append(SlurmJob(job, self.queue))
        return self._jobs[-1]

    def stop(self) -> str:
        jobs = " ".join(job.job_id for job in self._jobs if not job.ended)
        return f"the Slurm jobs keep running (scancel {jobs})" if jobs else ""
