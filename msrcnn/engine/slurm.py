"""Jobs in Slurm, by submitit: what a single training and the runs of a sweep share."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import submitit
from submitit.helpers import DelayedSubmission

from ..atomic_file import write_file
from ..errors import UserError
from .launch import Processes
from .main_program import InThisProgram

CPUS_PER_GPU = 8  # for the data loader
MINUTES = 24 * 60  # time limit of a job
JOB_ID = "slurm_job"  # file in a job's folder with the number of the last job
REQUEUES = 100  # how often a job whose time is up is put back into the queue
# Options that follow from other arguments, or that submitit sets.
OURS = {
    *("nodes", "ntasks", "ntasks_per_node", "gpus", "gpus_per_node", "job_name"),
    *("array", "output", "error", "open_mode", "signal", "requeue"),
}


def slurm_parameters(gpus: int, options: Sequence[str], machines: int = 1) -> dict:
    """Returns submitit's parameters of a job.

    Args:
        gpus: GPUs on each machine, 0 for none.
        options: options of ``sbatch`` as ``KEY=VALUE``; ``time`` in minutes, a day by default.
        machines: machines of the job.

    Raises:
        UserError: for an option that is not ``KEY=VALUE``, or one that follows from the others.
    """
    if shutil.which("srun") is None:
        raise UserError("there is no 'srun' here; is this a Slurm cluster?")
    parameters: dict[str, int | str | None] = {
        "time": MINUTES,
        "nodes": machines,
        "gpus_per_node": gpus or None,
        "cpus_per_task": CPUS_PER_GPU * max(gpus, 1),
    }
    more = {}
    for option in options:
        key, equals, value = option.partition("=")
        key = key.lstrip("-")
        name = key.replace("-", "_")
        if not (key and equals and value):
            raise UserError(
                f"--slurm {option}: give an option of sbatch as KEY=VALUE, e.g. qos=high"
            )
        if name in OURS:
            raise UserError(f"--slurm {option}: other arguments, or submitit, decide this")
        if name == "time":
            if not value.isdecimal():
                raise UserError(f"--slurm {option}: give the time limit in minutes")
            parameters[name] = int(value)
        elif name in parameters:
            parameters[name] = value
        else:
            more[key] = value
    return {**parameters, "additional_parameters": more}


def submit(
    function: Callable[[], object], folder: Path, name: str, parameters: dict
) -> submitit.SlurmJob:
    """Submits a job that is put back into the queue when its time is up.

    Args:
        function: called in the job, and again when the job has been put back; pickled.
        folder: for the pickled function and the job's output.
        name: the job's name.
        parameters: see :func:`slurm_parameters`.
    """
    executor = submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)
    executor.update_parameters(job_name=name, **parameters)
    job = cast(submitit.SlurmJob, executor.submit(_Resumable(InThisProgram(function))))
    write_file(folder / JOB_ID, job.job_id)
    return job


@dataclass(frozen=True)
class _Resumable:
    """A function that submitit calls again when the time of its job is up."""

    function: Callable[[], object]

    def __call__(self) -> object:
        # Before a job's time is up, Slurm sends SIGUSR2 to all its processes. submitit answers in
        # this process; the workers of the data loader must survive it.
        os.register_at_fork(after_in_child=_ignore_sigusr2)
        return self.function()

    def checkpoint(self) -> DelayedSubmission:
        return DelayedSubmission(self)


def _ignore_sigusr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def was_put_back() -> bool:
    """Returns whether this process is a job that ran before and was put back into the queue."""
    return int(os.getenv("SLURM_RESTART_COUNT") or 0) > 0


def processes_of_job(num_gpus: int) -> Processes:
    """Returns the processes of the job that this process belongs to, one such on each machine."""
    job = submitit.JobEnvironment()
    if job.num_nodes == 1:
        return Processes(num_gpus)
    port = 20_000 + int(job.raw_job_id) % 10_000  # jobs that share a machine need different ones
    return Processes(num_gpus, job.num_nodes, job.node, f"tcp://{job.hostnames[0]}:{port}")


def active_job(folder: Path) -> submitit.SlurmJob | None:
    """Returns the last job of a folder if it has not ended."""
    try:
        job: submitit.SlurmJob = submitit.SlurmJob(folder, (folder / JOB_ID).read_text(), tasks=[0])
    except OSError:
        return None
    jobs = query_jobs()
    # If Slurm does not answer, assume that the job is active: a run must not have two jobs.
    if job.paths.result_pickle.exists() or (jobs is not None and job.job_id not in jobs):
        return None
    return job


def query_jobs() -> set[str] | None:
    """Returns the numbers of the user's waiting and running jobs; ``None`` without an answer."""
    command = ["squeue", "--noheader", "--format=%A", f"--user={os.getuid()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split())
