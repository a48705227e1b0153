"""Where runs are started: processes of this machine, or Slurm; both through submitit."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import submitit
import torch

from ...errors import UserError

FOREVER_MIN = 60 * 24 * 365  # submitit's local jobs end by themselves after two minutes
CPUS_PER_GPU = 8  # of Slurm, for the data loader
STOP_SECONDS = 15
QUESTION_SECONDS = 30  # between two questions to Slurm
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

    def stop(self, jobs: list[submitit.Job]) -> None:
        """End jobs, or leave them to the cluster, as this process ends."""


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
        visible = visible_gpus()
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
        self._taken: dict[str, list[int]] = {}

    def has_place(self) -> bool:
        return bool(self._free)

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        gpus = self._free.pop(0)
        executor = submitit.LocalExecutor(folder)
        executor.update_parameters(
            timeout_min=FOREVER_MIN, gpus_per_node=self.num_gpus, visible_gpus=gpus
        )
        submitted = executor.submit(job)
        self._taken[submitted.job_id] = gpus
        return submitted

    def release(self, job: submitit.Job) -> None:
        self._free.append(self._taken.pop(job.job_id))

    def stop(self, jobs: list[submitit.Job]) -> None:
        for job in jobs:
            job.cancel()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not all(job.done() for job in jobs):
            time.sleep(0.1)


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
        self.num_gpus, self.places, self.threads = gpus, None, None
        self._next_question = 0.0
        self._parameters = {
            "time": minutes,
            "gpus_per_node": gpus or None,
            "cpus_per_task": CPUS_PER_GPU * max(gpus, 1),
            "partition": partition,
        }

    def has_place(self) -> bool:
        return True

    def is_done(self, job: submitit.Job) -> bool:
        # What has failed without a word only Slurm knows; it is not to be asked too often.
        ask = time.monotonic() >= self._next_question
        if ask:
            self._next_question = time.monotonic() + QUESTION_SECONDS
        return job.done(force_check=ask)

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
            executor.update_parameters(job_name=name, **self._parameters)
            return executor.submit(job)
        except (RuntimeError, OSError) as error:
            raise UserError(f"--launcher slurm: {error}") from error


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
