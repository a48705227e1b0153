import os
import signal

import pytest

from msrcnn import folder_lock
from msrcnn.errors import UserError
from msrcnn.folder_lock import LOCK, alone_in


def test_one_at_a_time(tmp_path):
    folder = tmp_path / "new" / "out"
    with (
        alone_in(folder, "--output"),
        pytest.raises(UserError, match=r"writes its results to '.*out': .* another --output$"),
        alone_in(folder, "--output"),
    ):
        pass
    with pytest.raises(ZeroDivisionError), alone_in(folder, "--output"):
        1 / 0  # noqa: B018
    with alone_in(folder, "--output"):
        assert [path.name for path in folder.iterdir()] == [LOCK]


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    with alone_in(tmp_path, "--output"):
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
    try:
        with alone_in(tmp_path, "--output"):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(folder_lock.fcntl, "flock", flock)
    with alone_in(tmp_path, "--output"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot write '.*file': File exists"),
        alone_in(tmp_path / "file", "--output"),
    ):
        pass
