import pytest
from zoo_configs import framework_cfg, zoo_cfg

from msrcnn.engine import check_config, use_scoring_parts
from msrcnn.engine.config_values import check_choice
from msrcnn.errors import UserError


def zoo_config(name):
    cfg = zoo_cfg(f"COCO-InstanceSegmentation/{name}.yaml")
    cfg.MODEL.MASKIOU_ON = True
    return cfg


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("mask_rcnn_R_50_FPN_1x", "MaskScoringHead"),
        ("mask_rcnn_R_50_C4_1x", "MaskScoringRes5Head"),
    ],
)
def test_one_key_adds_mask_scoring_to_a_zoo_config(name, head):
    cfg = zoo_config(name)
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"  # not every config sets it
    message = f"MaskRCNNConvUpsampleHead' does not score masks: set .*NAME {head}$"
    with pytest.raises(UserError, match=message):
        check_config(cfg)
    use_scoring_parts(cfg)
    check_config(cfg)
    assert cfg.MODEL.ROI_MASK_HEAD.NAME == head


def test_mask_head_must_fit_the_roi_heads():
    cfg = zoo_config("mask_rcnn_R_50_C4_1x")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    with pytest.raises(UserError, match="'MaskScoringHead' does not fit .*'Res5ROIHeads': set it"):
        check_config(cfg)
    use_scoring_parts(cfg)
    check_config(cfg)
    cfg = zoo_config("mask_rcnn_R_50_FPN_1x")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringRes5Head"
    with pytest.raises(UserError, match="set it to MaskScoringHead"):
        check_config(cfg)


def test_unknown_mask_head(tiny_cfg):
    tiny_cfg.MODEL.ROI_MASK_HEAD.NAME = "nonsense"
    with pytest.raises(UserError, match="ROI_MASK_HEAD.NAME is 'nonsense'; allowed: "):
        check_config(tiny_cfg)


def test_mask_scoring_needs_masks(tiny_cfg):
    tiny_cfg.MODEL.MASK_ON = False
    with pytest.raises(UserError, match="MODEL.MASK_ON True"):
        check_config(tiny_cfg)


def test_plain_mask_rcnn_may_have_any_mask_head(tiny_cfg):
    tiny_cfg.MODEL.MASKIOU_ON = False
    tiny_cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    use_scoring_parts(tiny_cfg)
    assert tiny_cfg.MODEL.ROI_MASK_HEAD.NAME == "MaskRCNNConvUpsampleHead"
    check_config(tiny_cfg)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["MODEL.ROI_HEADS.NMS_TYPE", "soft_linear"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "high_res"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.TARGET", "all_classes"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections"], "MaskScoringROIHeads"),
        (["MODEL.ROI_MASKIOU_HEAD.INPUT", "multiply"], "StandardROIHeads"),
        (
            ["MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections", "SOLVER.FIT_SCORES", True],
            "StandardROIHeads",
        ),
    ],
)
def test_our_roi_heads_are_used_only_if_needed(tiny_cfg, keys, name):
    tiny_cfg.merge_from_list(keys)
    if name != "StandardROIHeads":
        with pytest.raises(UserError, match="'StandardROIHeads' does not support"):
            check_config(tiny_cfg)
    use_scoring_parts(tiny_cfg)
    check_config(tiny_cfg)
    assert tiny_cfg.MODEL.ROI_HEADS.NAME == name


@pytest.mark.parametrize(
    ("choice", "named"),
    [
        ({"INPUT": "high_res"}, "INPUT high_res.*MaskScoringROIHeads, MaskScoringCascadeROIHeads"),
        ({"TARGET": "all_classes"}, "TARGET all_classes.*MaskScoringRes5ROIHeads"),
        ({"TARGET": "positive_classes"}, "TARGET positive_classes"),
    ],
)
def test_stock_roi_heads_reject_unsupported_choices(choice, named):
    cfg = framework_cfg("fpn", **choice)
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    with pytest.raises(ValueError, match=named):
        check_config(cfg)


def test_stock_roi_heads_do_not_support_soft_nms():
    cfg = framework_cfg("fpn")
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_HEADS.NMS_TYPE = "StandardROIHeads", "soft_linear"
    with pytest.raises(ValueError, match="'StandardROIHeads' does not support.*NMS_TYPE soft_lin"):
        check_config(cfg)


def test_c4_does_not_support_high_res():
    with pytest.raises(ValueError, match="'MaskScoringRes5ROIHeads' does not support.*high_res"):
        check_config(framework_cfg("c4", INPUT="high_res"))


def test_c4_does_not_train_on_detections_but_fits_to_them():
    cfg = framework_cfg("c4", SAMPLES="detections")
    message = "Res5ROIHeads' does not support .*SAMPLES detections without SOLVER.FIT_SCORES True"
    with pytest.raises(UserError, match=message):
        check_config(cfg)
    cfg.SOLVER.FIT_SCORES = True
    check_config(cfg)


@pytest.mark.parametrize("start", [-1, 100])
def test_detections_start_within_the_training(start):
    cfg = framework_cfg("fpn", SAMPLES="detections", DETECTIONS_FROM=start)
    cfg.SOLVER.MAX_ITER = 100
    with pytest.raises(UserError, match=f"DETECTIONS_FROM is {start}; .* SOLVER.MAX_ITER 100"):
        check_config(cfg)
    cfg.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM = 99
    check_config(cfg)


def test_threshold_is_only_for_the_target_class():
    with pytest.raises(ValueError, match="MASKIOU_THRESH is only for TARGET 'target_class'"):
        check_config(framework_cfg("fpn", TARGET="all_classes", MASKIOU_THRESH=0.5))


def test_rank_loss_is_only_for_the_target_class():
    with pytest.raises(ValueError, match="'l2_rank' compares masks in pairs"):
        check_config(framework_cfg("fpn", TARGET="all_classes", LOSS_TYPE="l2_rank"))


@pytest.mark.parametrize("name", ["MaskIoULiteHead", "MaskConfidenceHead"])
def test_heads_that_support_one_input(name):
    cfg = framework_cfg("fpn", NAME=name, INPUT="multiply")
    with pytest.raises(ValueError, match=f"is 'multiply'; allowed for {name}: 'concat'"):
        check_config(cfg)


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("MODEL.ROI_HEADS.NAME", "'StandardROIHeads'"),
        ("MODEL.ROI_HEADS.NMS_TYPE", "'nms', 'soft_linear'"),
        ("MODEL.ROI_MASKIOU_HEAD.NAME", "'MaskIoUHead'"),
        ("MODEL.ROI_MASKIOU_HEAD.INPUT", "'concat'"),
        ("MODEL.ROI_MASKIOU_HEAD.TARGET", "'target_class'"),
        ("MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE", "'l2'"),
        ("SOLVER.OPTIMIZER", "'sgd', 'adamw'"),
        ("TEST.COCO_ENGINE", "'hotcoco', 'pycocotools'"),
    ],
)
@pytest.mark.parametrize("maskiou_on", [True, False])
def test_unknown_value_lists_the_allowed_ones(key, allowed, maskiou_on, tiny_cfg):
    tiny_cfg.merge_from_list([key, "nonsense", "MODEL.MASKIOU_ON", maskiou_on])
    use_scoring_parts(tiny_cfg)  # does not raise
    with pytest.raises(ValueError, match=f"{key} is 'nonsense'; allowed: .*{allowed}"):
        check_config(tiny_cfg)


@pytest.mark.parametrize(
    ("key", "allowed"), [("NAME", "'mobilenet_v2', .*'resnet18'"), ("NORM", "'FrozenBN', 'BN'")]
)
def test_torchvision_model_is_checked_if_it_is_the_backbone(key, allowed, tiny_cfg):
    tiny_cfg.MODEL.TORCHVISION[key] = "nonsense"
    check_config(tiny_cfg)
    tiny_cfg.MODEL.BACKBONE.NAME = "build_torchvision_fpn_backbone"
    with pytest.raises(UserError, match=f"TORCHVISION.{key} is 'nonsense'; allowed: .*{allowed}"):
        check_config(tiny_cfg)


def test_negative_bootstrap_is_rejected(tiny_cfg):
    tiny_cfg.TEST.BOOTSTRAP = -1
    with pytest.raises(UserError, match="TEST.BOOTSTRAP is -1"):
        check_config(tiny_cfg)


def test_fit_without_an_iteration_is_rejected(tiny_cfg):
    tiny_cfg.SOLVER.FIT_VIEWS = 0
    with pytest.raises(UserError, match="SOLVER.FIT_VIEWS is 0; it must be at least 1"):
        check_config(tiny_cfg)


def test_check_choice():
    check_choice("KEY", "a", ["a", "b"])
    with pytest.raises(ValueError, match="KEY is 'c'; allowed: 'a', 'b'"):
        check_choice("KEY", "c", {"a": 1, "b": 2})


@pytest.mark.parametrize("key", ["TEST.AUG.ENABLED", "SOLVER.FIT_SCORES"])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (["MODEL.META_ARCHITECTURE", "PanopticFPN"], "GeneralizedRCNN.*, not 'PanopticFPN'"),
        (["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"], "proposes boxes itself"),
    ],
)
def test_models_that_do_not_detect_like_an_rcnn(tiny_cfg, key, change, problem):
    tiny_cfg.merge_from_list(change)
    check_config(tiny_cfg)
    tiny_cfg.merge_from_list([key, True])
    with pytest.raises(UserError, match=f"{key} needs .*{problem}"):
        check_config(tiny_cfg)


@pytest.mark.parametrize("key", ["MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS"])
def test_what_the_test_time_augmentation_does_not_support(tiny_cfg, key):
    tiny_cfg.merge_from_list([key, True])
    check_config(tiny_cfg)
    tiny_cfg.TEST.AUG.ENABLED = True
    with pytest.raises(UserError, match=f"TEST.AUG.ENABLED does not support {key}: set one"):
        check_config(tiny_cfg)


@pytest.mark.parametrize("name", ["mask_rcnn_R_50_FPN_1x", "mask_rcnn_R_50_FPN_3x"])
def test_deformable_models_of_the_zoo_use_our_backbone(name):
    cfg = zoo_cfg(f"Misc/{name}_dconv_c3-c5.yaml")
    use_scoring_parts(cfg)
    check_config(cfg)
    assert cfg.MODEL.BACKBONE.NAME == "build_deform_resnet_fpn_backbone"
    cfg = zoo_cfg(f"COCO-InstanceSegmentation/{name}.yaml")
    use_scoring_parts(cfg)
    assert cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone"
