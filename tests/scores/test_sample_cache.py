"""The folder of a cache: whose files it takes, and what it says of damaged ones."""

import pytest

from msrcnn.errors import UserError
from msrcnn.scores.sample_cache import SampleCache


@pytest.fixture
def users_folder(tmp_path):
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "photo.jpg").write_text("precious")
    return folder


def test_a_folder_of_the_user_is_refused(users_folder):
    with pytest.raises(UserError, match=r"samples' has files, but no cache .*: move them"):
        SampleCache(users_folder, {})
    assert [path.name for path in users_folder.iterdir()] == ["photo.jpg"]


def test_a_folder_in_which_another_process_writes_the_key_is_taken(tmp_path):
    (tmp_path / ".key.json.machine.12.0123abcd.part").touch()
    SampleCache(tmp_path, {})
    assert (tmp_path / "key.json").is_file()


def test_only_files_of_the_cache_are_removed(tmp_path, users_folder):
    SampleCache(tmp_path / "new", {}).remove()
    assert not (tmp_path / "new").exists()

    (users_folder / "photo.jpg").rename(tmp_path / "photo.jpg")
    cache = SampleCache(users_folder, {})
    cache.limit(1.0)
    for name in ("00000-features.npy", ".00001-small.npz.machine.12.0123abcd.part"):
        (users_folder / name).touch()
    theirs = ["10-photo.jpg", "photo.jpg"]
    for name in theirs:
        (users_folder / name).touch()
    cache.remove()
    assert sorted(path.name for path in users_folder.iterdir()) == theirs


def test_a_damaged_limit_is_named(tmp_path):
    cache = SampleCache(tmp_path, {})
    (tmp_path / "limit.json").write_text("{}")
    with pytest.raises(UserError, match=r"limit.json' is damaged .*: delete its folder"):
        cache.limit(8.0)


def test_samples_of_another_limit_are_rejected(tmp_path):
    """Parts that a small limit has left detections out of are not those of a large one."""
    cache = SampleCache(tmp_path, {})
    cache.limit(0.5)
    cache.limit(0.5)
    with pytest.raises(UserError, match="made with --cache-gb 0.5, not 8: delete the folder"):
        SampleCache(tmp_path, {}).limit(8.0)


def test_samples_without_a_limit_have_the_default_one(tmp_path):
    """As those of earlier versions."""
    cache = SampleCache(tmp_path, {})
    (tmp_path / "00000-predictions.npz").touch()
    cache.limit(8.0)
    with pytest.raises(UserError, match="made with --cache-gb 8, not 2"):
        cache.limit(2)
