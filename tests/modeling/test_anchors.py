import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator

from msrcnn.config import get_msrcnn_cfg
from msrcnn.errors import UserError

LEVELS = [ShapeSpec(channels=4, stride=8), ShapeSpec(channels=4, stride=16)]


@pytest.fixture
def cfg():
    cfg = get_msrcnn_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = "GivenAnchorGenerator"
    cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS = [
        [[-3.5, -2.0, 4.5, 3.0], [0.0, 0.0, 2.0, 2.0]],
        [[-8.0, -4.0, 8.0, 4.0], [-4.0, -8.0, 4.0, 8.0]],
    ]
    return cfg


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_every_cell_has_the_given_anchors(cfg, offset):
    cfg.MODEL.ANCHOR_GENERATOR.OFFSET = offset
    generator = build_anchor_generator(cfg, LEVELS)
    assert generator.num_anchors == [2, 2]
    found = generator([torch.zeros(1, 4, 2, 3), torch.zeros(1, 4, 1, 1)])
    expected = [
        [x0 + 8 * (x + offset), y0 + 8 * (y + offset), x1 + 8 * (x + offset), y1 + 8 * (y + offset)]
        for y in range(2)
        for x in range(3)
        for x0, y0, x1, y1 in cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS[0]
    ]
    assert found[0].tensor.tolist() == expected
    corner = torch.tensor(cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS[1]) + 16 * offset
    assert torch.equal(found[1].tensor, corner)


def test_wrong_number_of_feature_maps(cfg):
    with pytest.raises(UserError, match="has anchors for 2 feature maps, but the RPN has 1"):
        build_anchor_generator(cfg, LEVELS[:1])
