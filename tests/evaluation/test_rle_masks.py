import numpy as np
import pycocotools.mask as mask_util
import pytest

from msrcnn.evaluation.rle_masks import RLEMasks


@pytest.fixture(scope="module")
def dicts():
    rng = np.random.default_rng(0)
    masks = [rng.random((5 + i, 9)) > 0.5 for i in range(6)]
    masks[2][:] = False
    return [mask_util.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def test_masks_are_a_sequence_of_their_dicts(dicts):
    masks = RLEMasks.from_dicts(dicts)
    assert len(masks) == 6
    assert list(masks) == masks[:] == dicts
    assert masks[-1] == dicts[-1]
    assert masks[1:5:2] == dicts[1:5:2]
    for index in (6, -7):
        with pytest.raises(IndexError, match=f"mask {index} of 6"):
            masks[index]


@pytest.mark.parametrize("indices", [[], [3], [5, 0, 0, 2]])
def test_take(dicts, indices):
    taken = RLEMasks.from_dicts(dicts).take(np.array(indices, dtype=int))
    assert list(taken) == [dicts[index] for index in indices]
    assert len(taken.counts) == sum(len(dicts[index]["counts"]) for index in indices)


def test_concatenate(dicts):
    parts = [RLEMasks.from_dicts(part) for part in (dicts[:2], [], dicts[2:])]
    joined = RLEMasks.concatenate(parts)
    assert joined == dicts
    assert joined == RLEMasks.from_dicts(dicts)
    assert joined != RLEMasks.from_dicts(dicts[:5])
    assert joined != dicts[::-1]
