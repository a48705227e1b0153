"""Masks that proposals share are those that Detectron2 copies for each."""

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from rectangles import SIZE, batch, empty_ground_truth, ground_truth, losses_of

from msrcnn.modeling.instance_masks import InstanceMasks
from msrcnn.modeling.maskiou_target import instance_areas

INDEX = [2, 0, 1, 0]
BOXES = torch.tensor([[0.0, 0, 50, 50], [3, 7, 61, 80], [20, 20, 21, 90], [8, 8, 70, 60]])


@pytest.fixture
def stock():
    masks = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[1] = False
    return BitMasks(masks)


@pytest.mark.parametrize(
    "item",
    [1, -1, slice(1, 3), torch.tensor([3, 3, 0]), torch.tensor([True, False, False, True])],
)
def test_a_selection_equals_detectron2s(stock, item):
    ours, theirs = InstanceMasks(stock.tensor)[torch.tensor(INDEX)], stock[torch.tensor(INDEX)]
    assert len(ours) == len(theirs) == 4
    ours, theirs = ours[item], theirs[item]
    assert len(ours) == len(theirs)
    assert ours.image_size == theirs.image_size
    assert torch.equal(ours.tensor, theirs.tensor)
    assert torch.equal(ours.nonempty(), theirs.nonempty())
    assert all(map(torch.equal, ours, theirs))
    assert torch.equal(ours.get_bounding_boxes().tensor, theirs.get_bounding_boxes().tensor)
    boxes = BOXES[: len(ours)]
    crops = ours.crop_and_resize(boxes, 28)
    assert torch.equal(crops, theirs.crop_and_resize(boxes, 28))
    assert crops.any()
    areas = [instance_areas(masks, SIZE) for masks in (ours, theirs)]
    assert torch.equal(*areas)
    assert torch.equal(BitMasks.cat([ours, ours]).tensor, BitMasks.cat([theirs, theirs]).tensor)


def test_a_selection_copies_no_mask(stock):
    ours = InstanceMasks(stock.tensor)[torch.tensor(INDEX * 100)]
    assert ours.to("cpu")[:7].masks.data_ptr() == stock.tensor.data_ptr()
    with pytest.raises(AssertionError):
        ours.crop_and_resize(BOXES, 28)


def test_proposals_of_a_training_step_share_the_masks(tiny_cfg, build, storage, monkeypatch):
    """The losses are those of Detectron2's masks, and no proposal has a mask of its own."""
    model = build(tiny_cfg)
    expected = losses_of(model, batch(ground_truth(3), empty_ground_truth()))
    images = ground_truth(3), empty_ground_truth()
    images[0].gt_masks = InstanceMasks(images[0].gt_masks.tensor)
    copied = []
    stock = InstanceMasks.tensor.fget
    monkeypatch.setattr(InstanceMasks, "tensor", property(lambda m: copied.append(1) or stock(m)))
    found = losses_of(model, batch(*images))
    assert found == expected
    assert found["loss_maskiou"] > 0
    assert not copied


def test_fields_of_instances(stock):
    instances = Instances(SIZE, gt_boxes=Boxes(BOXES[:3]), gt_masks=InstanceMasks(stock.tensor))
    twice = Instances.cat([instances, instances[torch.tensor([2])]])
    assert torch.equal(twice.gt_masks.tensor, stock.tensor[[0, 1, 2, 2]])
    assert isinstance(instances.to("cpu").gt_masks, InstanceMasks)
