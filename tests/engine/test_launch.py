import multiprocessing

import pytest
import torch

from msrcnn.engine import Processes, launch_processes
from msrcnn.engine.launch import _in_process
from msrcnn.errors import UserError


def test_single_process_is_not_spawned():
    called = []
    launch_processes(lambda: called.append(1), Processes())
    assert called == [1]


def test_more_gpus_than_available(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="--num-gpus 8, but this machine has 0"):
        launch_processes(lambda: None, Processes(num_gpus=8))


def test_several_machines_need_an_address():
    with pytest.raises(UserError, match="--num-machines needs --dist-url"):
        launch_processes(lambda: None, Processes(num_gpus=1, num_machines=2))


def fail():
    raise UserError("no data")


def test_user_error_in_one_of_several_processes(capfd):
    """It prints one line and exits immediately, because other processes may be waiting for it."""
    process = multiprocessing.get_context("fork").Process(target=_in_process, args=(fail,))
    process.start()
    process.join()
    assert process.exitcode == 1
    assert capfd.readouterr().err == "error: no data\n"
