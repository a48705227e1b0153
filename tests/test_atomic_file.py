import contextlib
import os
import subprocess
import sys
import time

import pytest

from msrcnn import atomic_file as module
from msrcnn.atomic_file import MACHINE, atomic_file, remove_parts

DAY = 24 * 60 * 60


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def part_name(tmp_path):
    """Returns the name of the temporary file of a write."""
    with atomic_file(tmp_path / "a.json"):
        (part,) = tmp_path.glob(".*.part")
        return part.name


def test_two_writers_never_share_a_temporary_file(tmp_path, monkeypatch):
    names = {part_name(tmp_path), part_name(tmp_path)}  # as in two machines with the same names
    monkeypatch.setattr(module, "MACHINE", "other")
    names.add(part_name(tmp_path))
    assert len(names) == 3


def test_parts_of_processes_that_may_still_write_stay(tmp_path, dead):
    alive = os.getppid()
    kept, removed = [
        {
            f".model.pth.{MACHINE}.{alive}.0123abcd.part": 0,
            f".model.pth.other-machine.{dead}.0123abcd.part": 0,
            ".notes.part": 9 * DAY,  # of another program
        },
        {
            f".model.pth.{MACHINE}.{dead}.0123abcd.part": 0,
            f".model.pth.{MACHINE}.{os.getpid()}.0123abcd.part": 0,  # of a process before this one
            f".model.pth.other-machine.{alive}.0123abcd.part": 2 * DAY,
        },
    ]
    for name, age in {**kept, **removed}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_own_temporary_files_are_found_as_such(tmp_path):
    assert module.PART.fullmatch(part_name(tmp_path))["machine"] == MACHINE


def test_failed_write_keeps_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")
    with contextlib.suppress(KeyError), atomic_file(path) as file:
        file.write(b"half")
        raise KeyError
    assert [each.read_text() for each in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "人" * 83 + ".png"])
def test_any_name_that_a_file_can_have(tmp_path, name):
    with atomic_file(tmp_path / name) as file:
        file.write(b"all")
        (part,) = tmp_path.glob(".*.part")
        assert module.PART.fullmatch(part.name)["machine"] == MACHINE
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"all"
