"""Shares work on the CPU among processes with a thread each."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable

import torch

from ..errors import UserError
from ..escaping import one_line

MAX_PROCESSES = 8  # each needs the memory of an image's inference
GRACE_SECONDS = 10  # in which a process that is told to end can clean up
MANY_THREADS = 16  # with more, one process with all threads is faster than MAX_PROCESSES


def share_among_cores(work: Callable[..., object]) -> None:
    """Calls a function in as many processes as PyTorch has threads, within limits.

    A detector spends so much of its time between operators that an image on two threads takes
    nearly as long as on one thread. Two processes with one thread each are therefore nearly twice
    as fast.

    Args:
        work: called with ``rank`` and ``world_size``. Rank 0 is this process.

    Raises:
        UserError: raised by ``work`` in this process, or printed by another one.
    """
    threads = torch.get_num_threads()
    processes = min(threads, MAX_PROCESSES) if threads <= MANY_THREADS else 1
    if processes == 1:
        work(rank=0, world_size=1)
        return
    context = multiprocessing.get_context("fork")  # the model is shared, not copied
    others = [
        context.Process(target=_in_process, args=(work, rank, processes))
        for rank in range(1, processes)
    ]
    for process in others:
        process.start()
    torch.set_num_threads(1)
    try:
        work(rank=0, world_size=processes)
        for process in others:
            process.join()
    finally:
        torch.set_num_threads(threads)
        for process in others:  # after an error
            process.terminate()
        for process in others:
            process.join(GRACE_SECONDS)
            process.kill()  # one that has just started may have lost the signal
            process.join()
    if any(process.exitcode for process in others):
        raise UserError("one of the processes that share the images failed, see above")


def _in_process(work: Callable[..., object], rank: int, world_size: int) -> None:
    """Runs a process, which must end without the clean-up that belongs to its parent."""
    torch.set_num_threads(1)
    status = 1
    try:
        work(rank=rank, world_size=world_size)
        status = 0
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:  # the parent says so
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
