"""Where runs are started: processes of this machine, or Slurm; both through submitit."""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import submitit
import submitit.local.local
import torch

from ..atomic_file import write_file
from ..errors import UserError

FOREVER_MIN = 60 * 24 * 365  # submitit's local jobs end by themselves after two minutes
CPUS_PER_GPU = 8  # of Slurm, for the data loader
STOP_SECONDS = 15
QUESTION_SECONDS = 30  # between two questions to Slurm
JOB_ID = "slurm_job"  # in a run's folder of submitit's files: the last job's number
REQUEUES = 100  # a job whose time is up goes on so often


class Launcher:
    """Starts jobs on places; a place takes one job at a time.

    Attributes:
        num_gpus: of a job, 0 for the CPU.
        places: jobs at once, ``None`` where others decide.
        threads: of a job on the CPU; ``None`` leaves it to PyTorch.
    """

    num_gpus: int
    places: int | None
    threads: int | None

    def has_place(self) -> bool:
        """Whether a further job would start now."""
        raise NotImplementedError

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        """Start a job.

        Args:
            job: called in the job's process; pickled.
            folder: for submitit's files and the job's output.
            name: shown by the cluster.
        """
        raise NotImplementedError

    def is_done(self, job: submitit.Job) -> bool:
        """Whether a job has ended, well or not."""
        return job.done()

    def release(self, job: submitit.Job) -> None:
        """Tell that a job has ended."""

    def cause(self, job: submitit.Job) -> str:
        """What is known of why a job was killed, to stand behind that word."""
        return ", perhaps for want of memory"

    def stop(self) -> str:
        """End the jobs, or leave them to the cluster, as this process ends.

        Returns:
            What the user is to know of it.
        """
        raise NotImplementedError


class LocalLauncher(Launcher):
    """Processes of this machine, as many at once as there are places.

    submitit's local executor starts every job at once, on the same first GPUs: which job runs
    where and when is decided here.
    """

    def __init__(self, *, gpus: int | None = None, slots: int | None = None):
        """
        Args:
            gpus: of a job; by default 1, or 0 where there is none.
            slots: jobs at once; by default as many as there are GPUs for, on the CPU 1.

        Raises:
            UserError: if there are not as many GPUs.
        """
        visible = [] if gpus == 0 else visible_gpus()
        self.num_gpus = min(1, len(visible)) if gpus is None else gpus
        if self.num_gpus > len(visible):
            raise UserError(f"--gpus {gpus}, but this machine has {len(visible)}")
        fitting = len(visible) // self.num_gpus if self.num_gpus else None
        slots = slots or fitting or 1
        if fitting is not None and slots > fitting:
            raise UserError(f"--slots {slots} x {self.num_gpus} GPUs, but there are {len(visible)}")
        self.places = slots
        cores = len(os.sched_getaffinity(0))
        self.threads = None if self.num_gpus else max(cores // slots, 1)
        self._free = [
            visible[slot * self.num_gpus : (slot + 1) * self.num_gpus] for slot in range(slots)
        ]
        self._taken: dict[submitit.Job, list[int]] = {}

    def has_place(self) -> bool:
        return bool(self._free)

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        gpus = self._free[0]
        executor = _DetachedExecutor(folder)
        executor.update_parameters(
            timeout_min=FOREVER_MIN, gpus_per_node=self.num_gpus, visible_gpus=gpus
        )
        submitted = executor.submit(job)
        self._taken[submitted] = self._free.pop(0)
        return submitted

    def release(self, job: submitit.Job) -> None:
        self._free.append(self._taken.pop(job))

    def stop(self) -> str:
        for job in self._taken:
            job.cancel()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not all(job.done() for job in self._taken):
            time.sleep(0.1)
        for job in self._taken:  # what is left of it, such as the processes of other GPUs
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(job.job_id), signal.SIGKILL)
        return "the same command goes on from here"


class _DetachedExecutor(submitit.LocalExecutor):
    """Starts jobs in sessions of their own.

    In the terminal's, its Ctrl-C would reach a job's processes too, beside the end that is made of
    them here; submitit's is then interrupted before it is through, and says so on the terminal.
    """

    def _submit_command(self, command: str) -> submitit.LocalJob:
        with (self.folder / "controller.log").open("a") as log:
            detached = functools.partial(subprocess.Popen, start_new_session=True, stderr=log)
            with mock.patch.object(submitit.local.local.subprocess, "Popen", detached):
                return super()._submit_command(command)


class SlurmLauncher(Launcher):
    """Slurm jobs, all handed over at once; Slurm decides when and where they run."""

    def __init__(
        self,
        *,
        gpus: int = 1,
        partition: str | None = None,
        minutes: int = 24 * 60,
    ):
        """
        Args:
            gpus: of a job, on one machine.
            partition: Slurm's; ``None`` takes its default.
            minutes: after which a job is stopped and put back into the queue, to go on.
        """
        if shutil.which("srun") is None:
            raise UserError("--launcher slurm: there is no 'srun' here; is this a Slurm cluster?")
        self.num_gpus, self.places, self.threads = gpus, None, None
        self._next_question = 0.0
        # Numbers of the user's jobs, as Slurm gave them the last two times. What it has just put
        # back into the queue, or what is finished on a disk that shows it late, is not given up
        # for missing once.
        self._queues: deque[set[str]] = deque(maxlen=2)
        self._running: list[submitit.Job] = []
        self._parameters = {
            "time": minutes,
            "gpus_per_node": gpus or None,
            "cpus_per_task": CPUS_PER_GPU * max(gpus, 1),
            "partition": partition,
        }

    def has_place(self) -> bool:
        return True

    def is_done(self, job: submitit.Job) -> bool:
        if job.paths.result_pickle.exists():
            return True
        # What was killed without a word only Slurm knows; it is not to be asked too often.
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + QUESTION_SECONDS
            queue = _slurm_queue()
            if queue is not None:
                self._queues.append(queue)
        return len(self._queues) == 2 and not any(job.job_id in queue for queue in self._queues)

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        submitted = self._still_there(folder) or self._submit(job, folder, name)
        self._queues.clear()  # they do not have this one yet
        self._running.append(submitted)
        return submitted

    def cause(self, job: submitit.Job) -> str:
        return f": Slurm says {job.state}"

    def release(self, job: submitit.Job) -> None:
        self._running.remove(job)

    def stop(self) -> str:
        if not self._running:
            return "the same command goes on from here"
        jobs = " ".join(job.job_id for job in self._running)
        return (
            "Slurm's jobs go on, and the same command watches them again; to end them: "
            f"scancel {jobs}"
        )

    def _still_there(self, folder: Path) -> submitit.Job | None:
        """The job of an earlier call, which was interrupted, if Slurm still has it."""
        try:
            job = submitit.SlurmJob(folder, (folder / JOB_ID).read_text(), tasks=[0])
        except OSError:
            return None
        queue = _slurm_queue()
        # If Slurm does not answer, a second job of the same run is what must not be.
        active = queue is None or job.job_id in queue
        if not active or job.paths.result_pickle.exists():
            return None
        print(
            f"{folder.parent.name}: Slurm has job {job.job_id} of an earlier call, as that one "
            f"asked for it; 'scancel {job.job_id}' and this command again submit another",
            file=sys.stderr,
        )
        return job

    def _submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        executor.update_parameters(job_name=name, **self._parameters)
        submitted = executor.submit(job)
        write_file(folder / JOB_ID, submitted.job_id)
        return submitted


def _slurm_queue() -> set[str] | None:
    """Numbers of the user's jobs that wait or run; ``None`` if Slurm does not answer."""
    command = ["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split())


def visible_gpus() -> list[int]:
    """Numbers of the GPUs that may be used, as ``CUDA_VISIBLE_DEVICES`` counts them.

    Raises:
        UserError: if that variable names them otherwise than by number.
    """
    count = torch.cuda.device_count()
    names = os.getenv("CUDA_VISIBLE_DEVICES")
    if not count or names is None:
        return list(range(count))
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", names):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES is '{names}': to share out GPUs it must give their numbers"
        )
    return [int(name) for name in names.split(",")][:count]
