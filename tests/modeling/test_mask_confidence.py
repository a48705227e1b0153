import pytest
import torch

from msrcnn.modeling.mask_confidence import mask_confidence


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 1, 2, 2)])
def test_mean_over_the_foreground(shape):
    masks = torch.tensor([[0.9, 0.7, 0.49, 0.0], [0.5, 0.0, 0.1, 0.2]]).view(shape)
    assert mask_confidence(masks).tolist() == pytest.approx([0.8, 0.5])  # 0.5 is foreground


def test_all_background_is_zero():
    masks = torch.stack([torch.full((28, 28), 0.499), torch.ones(28, 28)])
    assert mask_confidence(masks).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(0, 28, 28), (0, 1, 28, 28)])
def test_no_masks(shape):
    confidence = mask_confidence(torch.zeros(shape))
    assert confidence.shape == (0,)
    assert confidence.dtype == torch.float32


def test_half_precision_is_summed_in_full_precision():
    masks = torch.full((1, 28, 28), 0.75, dtype=torch.float16)
    masks[0, 0, 0] = 0.5
    expected = (0.75 * 783 + 0.5) / 784
    assert mask_confidence(masks).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(3, 80, 28, 28), (28, 28)])
def test_other_shapes_are_rejected(shape):
    with pytest.raises(ValueError, match="expected .N, M, M. or"):
        mask_confidence(torch.zeros(shape))
