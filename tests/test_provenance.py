import hashlib
import subprocess

import pytest

from msrcnn import provenance
from msrcnn.provenance import file_record, software
from msrcnn.version import __version__


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A Git repository with one commit, in which msrcnn would be."""
    (tmp_path / "a.py").write_text("1")
    for command in (
        ["init", "-q"],
        ["add", "a.py"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


def test_software_of_a_repository(repository):
    found = software.__wrapped__()
    assert found["msrcnn"] == __version__
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    (repository / "a.py").write_text("2")
    assert software.__wrapped__() == {**found, "dirty": True}
    for name in ("torch", "torchvision", "detectron2", "hotcoco", "pycocotools", "numpy"):
        assert found[name][0].isdigit(), name


def test_software_that_is_installed_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    found = software.__wrapped__()
    assert found["commit"] is found["dirty"] is None


def test_hash_of_a_file_follows_its_content(tmp_path):
    path = tmp_path / "w.pth"
    for content in (b"one", b"three"):
        path.write_bytes(content)
        expected = hashlib.sha256(content).hexdigest()
        assert file_record(path) == {"path": str(path), "sha256": expected}
    assert file_record("") is None
    url = "https://example.org/w.pth"
    assert file_record(url) == {"path": url, "sha256": None}
