"""Processes of a run: one per GPU, on one or several machines."""

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import torch
import torch.distributed as dist
from detectron2.engine import launch
from detectron2.engine.launch import _distributed_worker
from detectron2.utils import comm

from ..errors import UserError
from ..escaping import one_line

# Time for the launcher to end this process, whose error may only follow from that of another one.
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Processes:
    """How many processes a run has, and how they find each other.

    Attributes:
        num_gpus: processes on this machine, one per GPU; 0 and 1 run in the calling process.
        num_machines: machines of the run.
        machine_rank: number of this machine, from 0.
        dist_url: address of the first machine, e.g. ``tcp://10.0.0.1:8686``; ``"auto"`` selects a
            free port and is for one machine only.
    """

    num_gpus: int = 0
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"


def launch_processes(main: Callable[[], object], processes: Processes) -> None:
    """Calls a function in every process of a run.

    Args:
        main: the function; pickled if there is more than one process.
        processes: see :class:`Processes`.

    Raises:
        UserError: raised by ``main``, or if the machine has fewer GPUs than asked for, or if the
            machines cannot find each other.
        ProcessExitedException: if one of several processes ended with an error.
    """
    num_gpus, num_machines = processes.num_gpus, processes.num_machines
    if dist.is_torchelastic_launched():
        _join_torchrun(main, processes)
        return
    if num_gpus > 1 and num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {num_gpus}, but this machine has {torch.cuda.device_count()}; with none, "
            "leave the flag out to run on the CPU"
        )
    if num_machines > 1 and processes.dist_url == "auto":
        raise UserError(
            "--num-machines needs --dist-url tcp://HOST:PORT, the address of the first machine"
        )
    # It says which processes it ends when one has failed, whose own error is enough.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    try:
        launch(
            main if num_gpus * num_machines <= 1 else functools.partial(_in_process, main),
            num_gpus,
            num_machines=num_machines,
            machine_rank=processes.machine_rank,
            dist_url=processes.dist_url,
        )
    except KeyboardInterrupt:
        for process in multiprocessing.active_children():  # a signal may have reached only us
            process.terminate()
        raise


def _join_torchrun(main: Callable[[], object], processes: Processes) -> None:
    """Runs one of the processes that ``torchrun`` has started, with Detectron2's process groups."""
    rank, here, size, machine = (
        int(os.environ[name])
        for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "GROUP_RANK")
    )
    if processes.num_machines > 1 or processes.num_gpus not in (0, 1, here):
        raise UserError(
            "torchrun starts the processes: leave out --num-gpus, --num-machines, --machine-rank "
            "and --dist-url"
        )
    if size == 1 or dist.is_initialized():  # by an earlier call, for the training
        main()
        return
    if here > torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        fix = f"use --nproc-per-node {gpus}" if gpus else "start it without torchrun"
        raise UserError(
            f"torchrun has started {here} processes, but this machine has {gpus} GPUs; {fix}"
        )
    _distributed_worker(
        rank, functools.partial(_in_process, main), size, here, machine, "env://", ()
    )


def _in_process(main: Callable[[], object]) -> None:
    """Runs one of several processes; an error ends it, and with it the others.

    Of errors in several processes, only that of the main process is shown, or else the first.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the launcher says that it was interrupted
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning is for the launcher
    try:
        main()
    except UserError as error:
        if not comm.is_main_process():
            time.sleep(GRACE_SECONDS)
        print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
        os._exit(1)  # immediately: the others may be waiting for this process
    except Exception:  # such as a lost connection
        time.sleep(2 * GRACE_SECONDS)
        raise


@contextlib.contextmanager
def part_of_run(rank: int, processes: int) -> Iterator[None]:
    """Within this context, data are divided as in one of several processes of a run."""
    with mock.patch.multiple(comm, get_rank=lambda: rank, get_world_size=lambda: processes):
        yield
