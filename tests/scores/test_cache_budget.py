"""What a cache of limited size keeps of the detections of each image."""

import pytest

from msrcnn.scores.cache_budget import WHOLE_SHARE, CacheBudget

SIZE = 10  # bytes of a detection
IMAGES = range(2000)


def budget(detections, views=1):
    """A cache with room for a number of detections of each image and view, which can have 40."""
    max_bytes = int(detections * SIZE * len(IMAGES) * views)
    return CacheBudget(max_bytes, len(IMAGES), views, per_image=40)


@pytest.mark.parametrize("views", [1, 2])
def test_nothing_is_left_out_if_there_is_room(views):
    room = budget(40, views)
    assert room.is_whole(3, views - 1, SIZE)
    assert room.draw(40, 3, views - 1, SIZE).tolist() == list(range(40))


@pytest.mark.parametrize("detections", [0.3, 2.6, 8.0])
@pytest.mark.parametrize("views", [1, 2])
def test_a_full_cache_keeps_to_its_size(detections, views):
    room = budget(detections, views)
    kept = [len(room.draw(40, i, view, SIZE)) for i in IMAGES for view in range(views)]
    assert sum(kept) * SIZE == pytest.approx(room.max_bytes, rel=0.15)


def test_some_images_of_the_first_view_keep_all_detections():
    room = budget(8.0, views=2)
    whole = [i for i in IMAGES if room.is_whole(i, 0, SIZE)]
    assert len(whole) * 40 * SIZE == pytest.approx(WHOLE_SHARE * room.max_bytes, rel=0.15)
    assert all(len(room.draw(40, i, 0, SIZE)) == 40 for i in whole)
    assert not any(room.is_whole(i, 1, SIZE) for i in IMAGES)
    others = [len(room.draw(40, i, 0, SIZE)) for i in IMAGES if i not in whole]
    assert set(others) == {6}  # of 8, those that are whole take a quarter


def test_a_share_below_one_leaves_images_out():
    kept = {len(budget(0.3).draw(40, i, 0, SIZE)) for i in IMAGES}
    assert kept == {0, 1, 40}


def test_draws_depend_on_image_and_view_alone():
    room = budget(8.0, views=2)
    (image, *_) = (i for i in IMAGES if not room.is_whole(i, 0, SIZE))
    first = room.draw(40, image, 0, SIZE).tolist()
    assert first == sorted(set(first))
    assert first == room.draw(40, image, 0, SIZE).tolist()
    assert first != room.draw(40, image, 1, SIZE).tolist()
