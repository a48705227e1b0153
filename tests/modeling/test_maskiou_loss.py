import pytest
import torch

from msrcnn.modeling import maskiou_loss


def test_l2_over_samples_above_zero():
    prediction = torch.tensor([0.5, 0.9, 0.3])
    target = torch.tensor([0.7, 0.0, 0.6])  # the second does not count
    expected = 0.5 * (0.2**2 + 0.3**2) / 2
    assert maskiou_loss(prediction, target).item() == pytest.approx(expected)


def test_threshold():
    prediction, target = torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.8])
    loss = maskiou_loss(prediction, target, threshold=0.5)
    assert loss.item() == pytest.approx(0.5 * 0.3**2)


@pytest.mark.parametrize("size", [0, 3])
def test_no_sample_counts(size):
    prediction = torch.rand(size, requires_grad=True)
    loss = maskiou_loss(prediction, torch.zeros(size))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(size))


def test_no_gradient_into_the_target():
    prediction = torch.tensor([0.5], requires_grad=True)
    target = torch.tensor([0.9], requires_grad=True)
    maskiou_loss(prediction, target).backward()
    assert prediction.grad.item() == pytest.approx(-0.4)
    assert target.grad is None


def test_half_precision_prediction_loses_no_digits():
    prediction = torch.tensor([0.5], dtype=torch.bfloat16)
    loss = maskiou_loss(prediction, torch.tensor([0.501]))
    assert loss.item() == pytest.approx(0.5 * 0.001**2, rel=1e-3)
