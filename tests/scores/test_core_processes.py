import multiprocessing
import os
import signal
import time

import pytest
import torch

from msrcnn.errors import UserError
from msrcnn.scores import core_processes
from msrcnn.scores.core_processes import MANY_THREADS, share_among_cores


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_processes_share_the_work_with_a_thread_each(tmp_path, threads):
    def work(rank, world_size):
        text = f"{os.getpid()} {world_size} {torch.get_num_threads()}"
        (tmp_path / str(rank)).write_text(text)

    threads(3)
    share_among_cores(work)
    found = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert {tuple(each[1:]) for each in found} == {("3", "1")}
    assert len({each[0] for each in found}) == 3
    assert found[0][0] == str(os.getpid())
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("number", [1, MANY_THREADS + 1])
def test_one_process_for_one_thread_or_very_many(number, threads):
    calls = []
    threads(number)
    share_among_cores(lambda rank, world_size: calls.append((rank, world_size)))
    assert calls == [(0, 1)]


@pytest.mark.parametrize("error", [UserError("img.png is broken"), RuntimeError("unexpected")])
def test_errors_of_other_processes_are_errors(error, threads, capfd):
    def work(rank, world_size):
        if rank == 1:
            raise error

    threads(2)
    with pytest.raises(UserError, match="one of the processes .* failed"):
        share_among_cores(work)
    assert str(error) in capfd.readouterr().err
    assert torch.get_num_threads() == 2


def test_an_error_here_ends_the_others(tmp_path, threads):
    def work(rank, world_size):
        if rank == 0:
            raise UserError("img.png is broken")
        while True:
            pass

    threads(2)
    with pytest.raises(UserError, match="img.png is broken"):
        share_among_cores(work)


def test_a_process_that_does_not_answer_is_killed(tmp_path, threads, monkeypatch):
    def work(rank, world_size):
        if rank == 0:
            while not (tmp_path / "deaf").exists():
                time.sleep(0.01)
            raise UserError("img.png is broken")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / "deaf").touch()
        time.sleep(20)
        (tmp_path / "survived").touch()

    monkeypatch.setattr(core_processes, "GRACE_SECONDS", 0.1)
    threads(2)
    with pytest.raises(UserError, match="img.png is broken"):
        share_among_cores(work)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "survived").exists()
