"""Jobs of a sweep as processes of this machine."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cloudpickle
import torch

from ..atomic_file import write_file
from ..engine.main_program import InThisProgram
from ..errors import UserError
from .launcher import Job, JobState, Launcher


class LocalJob(Job):
    """A process that leads a session of its own, to which all its child processes belong."""

    def __init__(self, process: subprocess.Popen, logs: tuple[Path, Path]):
        self._process = process
        self.job_id, self.logs = str(process.pid), logs

    def state(self) -> JobState:
        if self._process.returncode is None:
            # Without reaping the process, whose id the system could then reuse.
            ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self._process.pid, ended) is None:
                return JobState.RUNNING
            self.kill()  # child processes that it has left behind
        code = self._process.returncode
        if code < 0:
            return JobState.KILLED
        return JobState.FAILED if code else JobState.SUCCEEDED

    def kill(self) -> None:
        """Kills the process and its child processes, and waits until it has ended.

        Afterwards it does nothing, because the system may have reused the id of the group.
        """
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class LocalLauncher(Launcher):
    """Runs as many jobs at the same time as there are slots.

    Each has GPUs of its own, or shares one if there are more slots than GPUs.
    """

    def __init__(self, *, gpus: int | None = None, slots: int | None = None):
        """
        Args:
            gpus: GPUs per job; by default 1, or 0 if there is none.
            slots: concurrent jobs; by default as many as there are GPUs for, or 1 on the CPU. More
                jobs than GPUs share them if each needs one only.

        Raises:
            UserError: if there are not enough GPUs.
        """
        visible = [] if gpus == 0 else visible_gpus()
        self.num_gpus = min(1, len(visible)) if gpus is None else gpus
        if self.num_gpus > len(visible):
            raise UserError(f"--gpus {gpus}, but this machine has {len(visible)}")
        self.places = slots or (len(visible) // self.num_gpus if self.num_gpus else 1)
        if self.num_gpus > 1 and self.places * self.num_gpus > len(visible):
            raise UserError(f"--slots {slots} x {self.num_gpus} GPUs, but there are {len(visible)}")
        if not self.num_gpus or self.places > len(visible):
            self.threads = max(len(os.sched_getaffinity(0)) // self.places, 1)
        in_turn = itertools.cycle(visible)
        self._gpus = [list(itertools.islice(in_turn, self.num_gpus)) for _ in range(self.places)]
        self._jobs: dict[int, LocalJob] = {}  # the last job of each slot

    def _free_slots(self) -> list[int]:
        return [
            slot
            for slot in range(self.places)
            if slot not in self._jobs or self._jobs[slot].state() is not JobState.RUNNING
        ]

    def has_place(self) -> bool:
        return bool(self._free_slots())

    def submit(self, function: Callable[[], object], folder: Path, name: str) -> LocalJob:
        slot = self._free_slots()[0]
        # Named after this process: another sweep may have a job for the same run, which waits.
        file = folder / f"{os.getpid()}.pkl"
        write_file(file, cloudpickle.dumps(InThisProgram(function)))
        logs = file.with_suffix(".err"), file.with_suffix(".out")
        with logs[0].open("wb") as stderr, logs[1].open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "msrcnn.ablation.local_process", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(map(str, self._gpus[slot]))},
                start_new_session=True,  # Ctrl-C in the terminal must not reach it
            )
        self._jobs[slot] = LocalJob(process, logs)
        return self._jobs[slot]

    def stop(self) -> str:
        for job in self._jobs.values():
            job.kill()
        return ""


def visible_gpus() -> list[int]:
    """Returns the numbers of the GPUs that this process may use.

    Raises:
        UserError: if ``CUDA_VISIBLE_DEVICES`` does not list GPUs by number.
    """
    count = torch.cuda.device_count()
    names = os.getenv("CUDA_VISIBLE_DEVICES")
    if not count or names is None:
        return list(range(count))
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", names):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES is '{names}': it must list GPUs by number, so that jobs can be "
            "given GPUs of their own"
        )
    return [int(name) for name in names.split(",")][:count]
