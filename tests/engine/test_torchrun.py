"""Processes that torchrun has started, with gloo in place of NCCL."""

import subprocess
import sys

import pytest

GPUS = """
import functools, os, sys
import torch
import torch.distributed as dist
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 2
torch.cuda.set_device = lambda rank: None
init = dist.init_process_group
dist.init_process_group = lambda backend, **more: init("gloo", **more)
"""
TWO_CALLS = """
from detectron2.utils import comm
from msrcnn.engine import Processes, launch_processes

def main(name):
    ranks = comm.gather((comm.get_rank(), comm.get_local_rank(), comm.get_local_size()))
    if comm.is_main_process():
        print(name, comm.get_world_size(), ranks, flush=True)

for name in ("training", "fit"):
    launch_processes(functools.partial(main, name), Processes(num_gpus=int(sys.argv[1])))
# A thread of gloo may still be releasing the tensors of the last gather, for which it needs the
# interpreter. If that is ending, the thread aborts the process.
os._exit(0)
"""
ONE_FAILS = """
from detectron2.utils import comm
from msrcnn.engine import Processes, launch_processes
from msrcnn.errors import UserError

def main():
    if comm.is_main_process():
        raise UserError("no data")
    comm.synchronize()

launch_processes(main, Processes(num_gpus=1))
"""


def torchrun(tmp_path, script, *arguments, processes=2):
    path = tmp_path / "script.py"
    path.write_text(GPUS + script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_processes_of_torchrun_are_those_of_the_run(tmp_path):
    """Training and fit are two calls in the same processes."""
    done = torchrun(tmp_path, TWO_CALLS, "1")
    assert done.returncode == 0, done.stderr
    ranks = "2 [(0, 0, 2), (1, 1, 2)]"
    assert done.stdout.splitlines() == [f"training {ranks}", f"fit {ranks}"]


@pytest.mark.slow
def test_contradiction_to_torchrun_is_an_error(tmp_path):
    done = torchrun(tmp_path, TWO_CALLS, "8")
    assert done.returncode == 1
    assert "torchrun starts the processes: leave out --num-gpus" in done.stderr


@pytest.mark.slow
def test_more_processes_than_gpus(tmp_path):
    done = torchrun(tmp_path, TWO_CALLS, "1", processes=3)
    assert done.returncode == 1
    assert "torchrun has started 3 processes, but this machine has 2 GPUs" in done.stderr


@pytest.mark.slow
def test_error_of_one_process_ends_all(tmp_path):
    done = torchrun(tmp_path, ONE_FAILS)
    assert done.returncode == 1
    assert "error: no data" in done.stderr
