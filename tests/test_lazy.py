import pytest
import torch
from conftest import ROOT
from detectron2 import model_zoo
from detectron2.config import LazyCall, LazyConfig, instantiate
from detectron2.data.datasets import load_coco_json
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from omegaconf import OmegaConf

from msrcnn.data.mapper import MaskScoringDatasetMapper
from msrcnn.evaluation import MaskScoringEvaluator
from msrcnn.lazy import add_mask_scoring
from msrcnn.modeling import MaskIoUHead, MaskScoringHead

EXAMPLE = "new_baselines/ms_rcnn_R_50_FPN_100ep_LSJ.py"
BASELINE = "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ.py"
FPN, CASCADE, C4 = (
    f"common/models/{name}.py" for name in ("mask_rcnn_fpn", "cascade_rcnn", "mask_rcnn_c4")
)
SIZE = (96, 128)  # height, width


def load_example():
    return LazyConfig.load(str(ROOT / "configs" / EXAMPLE))


def model_config(name):
    """Returns a model config of Detectron2, adapted by :func:`for_a_short_test`."""
    return for_a_short_test(model_zoo.get_config(name).model)


def for_a_short_test(model):
    """Reduces the numbers of proposals and detections, and replaces FrozenBN by GN.

    FrozenBN would not keep features of random weights in bounds.
    """
    resnet = model.backbone.get("bottom_up", model.backbone)
    for part in (resnet.stem, resnet.stages, model.roi_heads.get("res5")):
        if part is not None and part.norm == "FrozenBN":
            part.norm = "GN"
    model.proposal_generator.post_nms_topk = [50, 20]
    heads = model.roi_heads
    heads.batch_size_per_image = 8
    for predictor in heads.get("box_predictors") or [heads.box_predictor]:
        predictor.test_score_thresh = 0.0
        predictor.test_topk_per_image = 4
    return model


def batch(mask_format):
    """Returns two images with one and two rectangles."""
    inputs = []
    for count in (1, 2):
        instances = Instances(SIZE)
        boxes = torch.tensor([[8.0, 10, 60, 70], [50, 20, 120, 90]])[:count]
        instances.gt_boxes = Boxes(boxes)
        instances.gt_classes = torch.arange(count)
        if mask_format == "polygon":
            polygons = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in boxes.tolist()]
            instances.gt_masks = PolygonMasks(polygons)
        else:
            masks = torch.zeros(count, *SIZE, dtype=torch.bool)
            for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist()):
                mask[y0:y1, x0:x1] = True
            instances.gt_masks = BitMasks(masks)
        image = torch.randint(0, 255, (3, *SIZE)).float()
        inputs.append({"image": image, "instances": instances})
    return inputs


def train_and_detect(model, mask_format="polygon"):
    """Trains for one step, then runs inference and returns the detections."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    before = model.roi_heads.mask_head.maskiou_head.maskiou.weight.clone()
    losses = model.train()(batch(mask_format))
    assert {"loss_mask", "loss_maskiou"} <= losses.keys()
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    optimizer.step()
    assert not torch.equal(model.roi_heads.mask_head.maskiou_head.maskiou.weight, before)

    with torch.no_grad():
        outputs = model.eval()(batch(mask_format))
    return [output["instances"] for output in outputs]


def assert_scored(detections):
    assert sum(len(instances) for instances in detections) > 0
    for instances in detections:
        assert torch.equal(instances.mask_scores, instances.scores * instances.pred_maskiou)


# --- the example ---------------------------------------------------------------------------


def test_example_differs_from_the_baseline_only_in_mask_scoring():
    example, baseline = load_example(), model_zoo.get_config(BASELINE)
    assert set(example) == set(baseline)
    assert example.model.roi_heads.mask_head._target_ is MaskScoringHead
    assert example.dataloader.train.mapper._target_ is MaskScoringDatasetMapper
    assert example.dataloader.evaluator._target_ is MaskScoringEvaluator
    assert example.dataloader.evaluator.dataset_name == "coco_2017_val"
    example.train.output_dir = "elsewhere"
    assert example.dataloader.evaluator.output_dir == "elsewhere"
    baseline.train.output_dir = "elsewhere"

    del example.model.roi_heads.mask_head["maskiou_head"]
    example.model.roi_heads.mask_head._target_ = MaskRCNNConvUpsampleHead
    example.dataloader.train.mapper._target_ = baseline.dataloader.train.mapper._target_
    example.dataloader.evaluator = baseline.dataloader.evaluator
    # Loading the file creates a new lambda for the norm each time.
    for config in (example, baseline):
        del config.model.roi_heads.mask_head["conv_norm"]
        del config.model.roi_heads.box_head["conv_norm"]
    assert OmegaConf.to_container(example) == OmegaConf.to_container(baseline)


@pytest.mark.slow
@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_example_loads_the_baselines_weights_trains_and_scores(storage, mask_format):
    torch.manual_seed(0)
    stock = instantiate(model_zoo.get_config(BASELINE).model)
    model = instantiate(for_a_short_test(load_example().model))
    result = model.load_state_dict(stock.state_dict(), strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys
    assert all(key.startswith("roi_heads.mask_head.maskiou_head.") for key in result.missing_keys)
    assert_scored(train_and_detect(model, mask_format))


def test_example_mapper_adds_areas(shapes_root):
    annotations = shapes_root / "annotations" / "instances_train.json"
    image = load_coco_json(str(annotations), str(shapes_root / "train"))[0]
    instances = instantiate(load_example().dataloader.train.mapper)(image)["instances"]
    assert instances.gt_mask_area.shape == (len(instances),)


# --- add_mask_scoring on Detectron2's models -----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", [FPN, CASCADE, C4])
def test_models_train_and_score(storage, name):
    torch.manual_seed(0)
    config = model_config(name)
    add_mask_scoring(config)
    assert_scored(train_and_detect(instantiate(config)))


@pytest.mark.parametrize(
    ("name", "channels", "flat"), [(FPN, 257, 256 * 7 * 7), (C4, 2049, 256 * 4 * 4)]
)
def test_maskiou_head_has_the_papers_sizes(name, channels, flat):
    config = model_config(name)
    add_mask_scoring(config)
    head = instantiate(config.roi_heads.mask_head).maskiou_head
    assert [conv.in_channels for conv in head.convs] == [channels, 256, 256, 256]
    assert [fc.in_features for fc in head.fcs] == [flat, 1024]
    assert head.maskiou.out_features == 80
    assert all(conv.norm is None for conv in head.convs)


def test_sizes_follow_later_changes():
    config = model_config(FPN)
    add_mask_scoring(config)
    config.roi_heads.num_classes = 7
    config.roi_heads.mask_head.conv_dims = [32, 32]
    mask_head = instantiate(config.roi_heads.mask_head)
    assert mask_head.predictor.out_channels == 7
    assert mask_head.maskiou_head.maskiou.out_features == 7


def test_class_agnostic_masks_have_a_maskiou_per_class():
    config = model_config(FPN)
    add_mask_scoring(config)
    config.roi_heads.mask_head.num_classes = 1
    mask_head = instantiate(config.roi_heads.mask_head)
    assert mask_head.predictor.out_channels == 1
    assert mask_head.maskiou_head.maskiou.out_features == 80


def test_overrides():
    config = model_config(FPN)
    add_mask_scoring(config, conv_dims=[32] * 2, fc_dims=[64], conv_norm="GN")
    config.roi_heads.mask_head.maskiou_loss_weight = 2.0
    mask_head = instantiate(config.roi_heads.mask_head)
    assert mask_head.maskiou_loss_weight == 2.0
    head = mask_head.maskiou_head
    assert [conv.out_channels for conv in head.convs] == [32, 32]
    assert [type(conv.norm).__name__ for conv in head.convs] == ["GroupNorm"] * 2
    assert [fc.out_features for fc in head.fcs] == [64]


@pytest.mark.parametrize("columns", [slice(0, 5), slice(0, 9)])
def test_scalars_reach_the_head(columns):
    config = model_config(FPN)
    add_mask_scoring(config, scalars=columns)
    model = instantiate(config).eval()
    head, found = model.roi_heads.mask_head.maskiou_head, []
    head.scalar_norm.register_forward_hook(lambda m, inputs, y: found.append(inputs[0]))
    with torch.no_grad():
        model(batch("polygon"))
    (scalars,) = found
    assert len(scalars) > 0
    assert scalars.shape[1] == columns.stop
    assert head.fcs[0].in_features == 256 * 7 * 7 + columns.stop


def test_saved_configs(tmp_path):
    """``LazyConfig.save`` writes ``_target_`` as a string, before and after the call."""
    config = model_zoo.get_config(C4)
    LazyConfig.save(config, str(tmp_path / "stock.yaml"))
    config = LazyConfig.load(str(tmp_path / "stock.yaml"))
    add_mask_scoring(config.model)
    LazyConfig.save(config, str(tmp_path / "scoring.yaml"))
    config = LazyConfig.load(str(tmp_path / "scoring.yaml"))
    mask_head = instantiate(config.model.roi_heads.mask_head)
    assert isinstance(mask_head, MaskScoringHead)
    assert isinstance(mask_head.maskiou_head, MaskIoUHead)
    assert mask_head.maskiou_head.fcs[0].in_features == 256 * 4 * 4


def test_a_second_call_replaces_the_first():
    config = model_config(FPN)
    add_mask_scoring(config, fc_dims=[64])
    add_mask_scoring(config)
    assert [f.out_features for f in instantiate(config.roi_heads.mask_head).maskiou_head.fcs] == (
        [1024, 1024]
    )


@pytest.mark.parametrize("name", ["keypoint_rcnn_fpn", "retinanet"])
def test_model_without_masks_is_rejected(name):
    config = model_zoo.get_config(f"common/models/{name}.py").model
    with pytest.raises(ValueError, match="no roi_heads.mask_head"):
        add_mask_scoring(config)


def test_mask_head_without_input_shape_is_rejected():
    class OtherHead(MaskRCNNConvUpsampleHead):
        pass

    config = model_config(FPN)
    config.roi_heads.mask_head = LazyCall(OtherHead)(num_classes=80)
    with pytest.raises(ValueError, match="OtherHead cannot score .* its config has no input_shape"):
        add_mask_scoring(config)
