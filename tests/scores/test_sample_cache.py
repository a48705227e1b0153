"""The folder of a cache: whose files it takes, and what it says of damaged ones."""

import numpy as np
import pytest
import torch

from msrcnn.errors import UserError
from msrcnn.evaluation import Detections
from msrcnn.scores.cache_budget import Selection
from msrcnn.scores.sample_cache import PART_FILES, SampleCache, Samples


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


@pytest.fixture
def cache(tmp_path):
    """A cache of two parts with 3 and 2 samples."""
    cache = SampleCache(tmp_path / "cache", {})
    for number, size in enumerate((3, 2)):
        samples = Samples(
            features=np.full((size, 4, 2, 2), number, np.float16),
            mask_logits=np.zeros((size, 1, 2, 2), np.float16),
            scalars=np.zeros((size, 9), np.float32),
            classes=np.zeros(size, np.int64),
            target=np.full(size, number / 2, np.float32),
            area=np.ones(size, np.float32),
            view=np.zeros(size, np.int64),
            usable=np.ones(size, bool),
            duplicate=np.zeros(size, bool),
        )
        cache.write_part(number, samples, Detections.nothing(), Selection(number, [7]))
    return cache


def read_all(cache):
    return cache.left_out, cache.whole_images, cache.detections, cache.batch(np.arange(5), "cpu")


def test_samples_are_those_of_all_parts(cache):
    assert (len(cache), cache.left_out, cache.whole_images) == (5, 1, [7, 7])
    batch = cache.batch(np.array([4, 0]), torch.device("cpu"))
    assert batch["target"].tolist() == [0.5, 0]
    assert batch["features"].mean(dim=(1, 2, 3)).tolist() == [1, 0]


@pytest.mark.parametrize("name", PART_FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "other"])
def test_damaged_parts_are_named(cache, name, damage):
    path = cache.folder / f"00000-{name}"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
        assert not cache.has_part(0)
        if name == "predictions.npz":  # the part does not count, and is collected again
            return
    else:
        parts = {"empty": b"", "truncated": content[: len(content) // 2], "other": b"[5]"}
        path.write_bytes(parts[damage])
    with pytest.raises(UserError, match=rf"00000-{name}' is damaged .*: delete its folder"):
        read_all(cache)
