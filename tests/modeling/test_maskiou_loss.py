import pytest
import torch

from msrcnn.modeling.maskiou_loss import (
    AREA_LOSSES,
    MASKIOU_LOSS_REGISTRY,
    area_weights,
    l2,
    l2_rank,
    maskiou_loss,
)

LOSSES = ("l2", "area_weighted_l2", "l2_rank")


def test_l2_over_samples_above_zero():
    prediction = torch.tensor([0.5, 0.9, 0.3])
    target = torch.tensor([0.7, 0.0, 0.6])  # the second sample is ignored
    expected = 0.5 * (0.2**2 + 0.3**2) / 2
    assert maskiou_loss(prediction, target).item() == pytest.approx(expected)


def test_threshold():
    prediction, target = torch.tensor([0.5, 0.5]), torch.tensor([0.4, 0.8])
    loss = maskiou_loss(prediction, target, threshold=0.5)
    assert loss.item() == pytest.approx(0.5 * 0.3**2)


@pytest.mark.parametrize("size", [0, 3])
def test_all_samples_ignored(size):
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


def test_half_precision_prediction_is_computed_in_full_precision():
    prediction = torch.tensor([0.5], dtype=torch.bfloat16)
    loss = maskiou_loss(prediction, torch.tensor([0.501]))
    assert loss.item() == pytest.approx(0.5 * 0.001**2, rel=1e-3)


# --- losses that use areas ------------------------------------------------------------------


def test_l2_is_the_same_with_and_without_areas():
    torch.manual_seed(0)
    prediction, target = torch.rand(50), torch.rand(50)
    expected = (0.5 * (prediction - target) ** 2).sum() / torch.tensor(50)
    assert torch.equal(maskiou_loss(prediction, target), expected)
    assert torch.equal(maskiou_loss(prediction, target, area=torch.rand(50) * 1e4), expected)


def test_area_losses_are_the_losses_that_require_areas():
    one = torch.ones(1)
    for name in LOSSES:
        if name in AREA_LOSSES:
            with pytest.raises(ValueError, match=f"'{name}' requires the areas"):
                maskiou_loss(one, one, loss_type=name)
        else:
            maskiou_loss(one, one, loss_type=name)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0, 3])
def test_every_loss_is_zero_if_all_samples_are_ignored(name, size):
    prediction = torch.rand(size, requires_grad=True)
    loss = maskiou_loss(prediction, torch.zeros(size), loss_type=name, area=torch.ones(size))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(size))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("area", [0.0, 1e7])
def test_every_loss_is_finite_and_zero_when_exact(name, area):
    target = torch.tensor([0.2, 0.9, 0.9])
    areas = torch.tensor([area, area, 400.0])
    prediction = (target + 0.3).requires_grad_()
    loss = maskiou_loss(prediction, target, loss_type=name, area=areas)
    loss.backward()
    assert loss.item() > 0
    assert torch.isfinite(prediction.grad).all()
    assert maskiou_loss(target, target, loss_type=name, area=areas).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_an_ignored_sample_does_not_affect_the_loss(name):
    prediction, target = torch.tensor([0.5, 0.9, 0.3]), torch.tensor([0.7, 0.2, 0.6])
    area, kept = torch.tensor([100.0, 90.0, 110.0]), [0, 2]
    loss = maskiou_loss(prediction, target, loss_type=name, threshold=0.5, area=area)
    alone = maskiou_loss(prediction[kept], target[kept], loss_type=name, area=area[kept])
    assert loss.item() == pytest.approx(alone.item())


def test_area_weights_fall_with_the_side_and_have_mean_one():
    weights = area_weights(torch.tensor([16.0**2, 32.0**2, 64.0**2]))
    assert weights.mean().item() == pytest.approx(1)
    assert (weights / weights[1]).tolist() == pytest.approx([2, 1, 0.5])
    # Clamped for sides below 8 and above 128: the ratio of two weights is at most 16.
    tiny, small, large, huge = area_weights(torch.tensor([0.0, 8.0**2, 128.0**2, 1e6]))
    assert tiny == small
    assert large == huge
    assert (small / large).item() == pytest.approx(16)


def test_area_weighted_l2_by_hand():
    prediction, target = torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.6])
    area = torch.tensor([16.0**2, 48.0**2])  # weights 2 and 2/3, normalized to 1.5 and 0.5
    loss = maskiou_loss(prediction, target, loss_type="area_weighted_l2", area=area)
    assert loss.item() == pytest.approx((1.5 * 0.5 * 0.2**2 + 0.5 * 0.5 * 0.1**2) / 2)


def test_area_weighted_l2_with_equal_areas_is_l2():
    torch.manual_seed(0)
    prediction, target, area = torch.rand(9), torch.rand(9), torch.full((9,), 50.0)
    loss = maskiou_loss(prediction, target, loss_type="area_weighted_l2", area=area)
    assert loss.item() == pytest.approx(maskiou_loss(prediction, target).item())


def ranking_term(prediction, target, area):
    """The ranking term that ``l2_rank`` adds to the L2 loss of each sample."""
    prediction, target, area = map(torch.tensor, (prediction, target, area))
    return (l2_rank(prediction, target, area) - l2(prediction, target, area)).tolist()


def test_rank_by_hand():
    # Margins between the better and the worse: true 0.2, 0.5, 0.3; predicted 0.1, 0.2, 0.1.
    pair = [0.5 * 0.1**2, 0.5 * 0.3**2, 0.5 * 0.2**2]
    expected = [(pair[0] + pair[1]) / 2, (pair[0] + pair[2]) / 2, (pair[1] + pair[2]) / 2]
    term = ranking_term([0.7, 0.6, 0.5], [0.9, 0.7, 0.4], [100.0, 100.0, 100.0])
    assert term == pytest.approx(expected)


def test_rank_ignores_larger_margins_and_equal_targets():
    assert ranking_term([0.9, 0.1], [0.6, 0.5], [100.0, 100.0]) == pytest.approx([0, 0])
    assert ranking_term([0.9, 0.1], [0.5, 0.5], [100.0, 100.0]) == pytest.approx([0, 0])


def test_rank_compares_only_similar_sizes():
    wrong_order = [0.1, 0.9], [0.9, 0.1]
    assert ranking_term(*wrong_order, [100.0, 399.0])[0] > 0
    assert ranking_term(*wrong_order, [100.0, 401.0]) == pytest.approx([0, 0])


def test_rank_gradient_separates_equal_predictions():
    prediction = torch.tensor([0.5, 0.5], requires_grad=True)
    target, area = torch.tensor([0.6, 0.4]), torch.full((2,), 100.0)
    maskiou_loss(prediction, target, loss_type="l2_rank", area=area).backward()
    plain = torch.tensor([0.5, 0.5], requires_grad=True)
    maskiou_loss(plain, target).backward()
    assert prediction.grad[0] < plain.grad[0] < 0 < plain.grad[1] < prediction.grad[1]


@pytest.mark.parametrize("name", AREA_LOSSES)
def test_no_gradient_into_the_area(name):
    area = torch.tensor([100.0, 200.0], requires_grad=True)
    prediction = torch.tensor([0.5, 0.6], requires_grad=True)
    maskiou_loss(prediction, torch.tensor([0.9, 0.8]), loss_type=name, area=area).backward()
    assert area.grad is None


# --- registered losses ----------------------------------------------------------------------


def test_built_in_losses_are_registered():
    assert set(LOSSES) <= set(dict(MASKIOU_LOSS_REGISTRY))


def test_unknown_loss():
    with pytest.raises(KeyError, match="l3"):
        maskiou_loss(torch.ones(1), torch.ones(1), loss_type="l3")


def test_a_loss_that_is_summed_already_is_an_error(monkeypatch):
    losses = {"summed": lambda prediction, target, area: l2(prediction, target, area).sum()}
    monkeypatch.setattr(MASKIOU_LOSS_REGISTRY, "_obj_map", losses)
    message = r"loss_type 'summed' returned a tensor of shape \(\); expected .* each sample, \(2,\)"
    with pytest.raises(ValueError, match=message):
        maskiou_loss(torch.ones(2), torch.ones(2), loss_type="summed")
