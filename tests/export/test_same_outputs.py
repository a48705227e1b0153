from functools import partial

import pytest
import torch

from msrcnn.errors import UserError
from msrcnn.export.same_outputs import TOLERANCES, agreeing, check_same

IMAGE = torch.zeros(3, 8, 8)


def outputs(number=40):
    """Outputs of a model, with boxes that are 1 pixel apart."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.arange(number).float()[:, None].expand(-1, 2)
    return {
        "pred_boxes": torch.cat([corners, corners + 10], dim=1),
        "pred_classes": torch.arange(number) % 3,
        "scores": torch.rand(number, generator=generator),
        "pred_masks": torch.rand(number, 1, 4, 4, generator=generator),
        "pred_maskiou": torch.rand(number, generator=generator),
        "mask_scores": torch.rand(number, generator=generator),
    }


def rows(found, index):
    return {name: value[index] for name, value in found.items()}


def test_order_does_not_matter():
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert agreeing(outputs(), rows(outputs(), order)) == 40


@pytest.mark.parametrize("name", TOLERANCES)
def test_every_output_is_compared(name):
    for factor, expected in ((0.9, 40), (1.1, 39)):
        other = outputs()
        other[name][7] += factor * TOLERANCES[name]
        assert agreeing(outputs(), other) == expected


def test_classes_are_compared():
    other = outputs()
    other["pred_classes"][3] = 9
    assert agreeing(outputs(), other) == 39


def test_two_detections_do_not_match_the_same():
    other = rows(outputs(), [0, 0, 2])
    assert agreeing(other, rows(outputs(), [0, 1, 2])) == 2


@pytest.mark.parametrize("numbers", [(0, 3), (3, 0), (0, 0)])
def test_no_detections(numbers):
    assert agreeing(*map(outputs, numbers)) == 0


def test_rounding_may_tip_few_detections():
    """5% of the detections of both models may have no match in the other."""
    for number, allowed in ((40, True), (37, True), (36, False)):
        compare = partial(check_same, partial(finding, 40), partial(finding, number), [IMAGE])
        if allowed:
            compare()
        else:
            with pytest.raises(UserError, match="1 test pictures, 4 of 76 detections"):
                compare()


def finding(number, image):
    return rows(outputs(), slice(number))


def test_other_outputs_and_failures_are_errors():
    with pytest.raises(UserError, match="returns"):
        check_same(lambda image: outputs(), lambda image: {"scores": IMAGE}, [IMAGE])
    with pytest.raises(UserError, match="fails on a test picture: list index out of range"):
        check_same(lambda image: outputs(), lambda image: [][0], [IMAGE])
