"""Where runs are started: processes of this machine, or Slurm; both through submitit."""

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import submitit
import torch

from ...atomic_file import write_file
from ...errors import UserError

FOREVER_MIN = 60 * 24 * 365  # submitit's local jobs end by themselves after two minutes
CPUS_PER_GPU = 8  # of Slurm, for the data loader
STOP_SECONDS = 15
QUESTION_SECONDS = 30  # between two questions to Slurm
JOB_ID = "slurm_job"  # in a run's folder of submitit's files: the last job's number
FINAL_STATES = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "TIMEOUT"),
    }
)
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
        executor = submitit.LocalExecutor(folder)
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
        return "the same command goes on from here"


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
        # What has failed without a word only Slurm knows; it is not to be asked too often.
        ask = time.monotonic() >= self._next_question
        if ask:
            self._next_question = time.monotonic() + QUESTION_SECONDS
        return _slurm_state(job, "force" if ask else "cache") in FINAL_STATES

    def submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        submitted = self._still_there(folder) or self._submit(job, folder, name)
        self._running.append(submitted)
        return submitted

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
        active = _slurm_state(job, "force") not in {*FINAL_STATES, "UNKNOWN"}
        return job if active and not job.paths.result_pickle.exists() else None

    def _submit(self, job: Callable, folder: Path, name: str) -> submitit.Job:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
        executor.update_parameters(job_name=name, **self._parameters)
        submitted = executor.submit(job)
        write_file(folder / JOB_ID, submitted.job_id)
        return submitted


def _slurm_state(job: submitit.Job, mode: str) -> str:
    """One word, as `CANCELLED` of `CANCELLED by 1000`."""
    return (job.watcher.get_state(job.job_id, mode=mode).upper().split() or ["UNKNOWN"])[0]


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
