"""The interface of launchers, which start the jobs of a sweep on this machine or in Slurm."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from pathlib import Path


class JobState(Enum):
    RUNNING = "is running"  # or waits in Slurm's queue
    SUCCEEDED = "ended without an error"
    FAILED = "ended with an error"
    KILLED = "was killed"


class Job(ABC):
    """A function that runs in a process of its own.

    Attributes:
        job_id: the number of the process, or of the job in Slurm.
        logs: files of its standard error and standard output.
    """

    job_id: str
    logs: tuple[Path, Path]

    @abstractmethod
    def state(self) -> JobState:
        """Returns whether the job is running, or how it ended."""

    def cause(self) -> str:
        """Returns what is known about why the job was killed."""
        return "perhaps it ran out of memory"


class Launcher(ABC):
    """Starts jobs.

    Attributes:
        num_gpus: GPUs per job, 0 for the CPU.
        places: how many jobs run at the same time; ``None`` if Slurm decides.
        threads: PyTorch threads of a job that shares the CPU or a GPU; ``None`` for PyTorch's
            default.
    """

    num_gpus: int
    places: int | None = None
    threads: int | None = None

    @abstractmethod
    def has_place(self) -> bool:
        """Returns whether another job can be submitted now."""

    @abstractmethod
    def submit(self, function: Callable[[], object], folder: Path, name: str) -> Job:
        """Starts a job.

        Args:
            function: called in the job's process; pickled by cloudpickle.
            folder: for the pickled function and the job's output.
            name: the job's name in Slurm.
        """

    @abstractmethod
    def stop(self) -> str:
        """Stops the jobs of this machine; called when the sweep is interrupted.

        Returns:
            A message for the user about jobs that are still running; empty if there are none.
        """
