"""Every rule that a config must follow, checked before anything is built."""

import torchvision
from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    MaskRCNNConvUpsampleHead,
)

from ..config_by_key import value_of
from ..errors import UserError
from ..modeling import ROI_MASKIOU_HEAD_REGISTRY, MaskScoring
from ..modeling.detection_samples import trains_on_detections
from ..modeling.mask_scoring_heads import why_not_scored
from ..modeling.maskiou_samples import TARGETS
from ..modeling.meta_architecture import check_rcnn
from ..modeling.torchvision_backbone import NORMS
from .config_values import check_choice, check_values
from .scoring_parts import is_res5, required_features, scoring_mask_head


def check_config(cfg: CfgNode) -> None:
    """Rejects a config with an invalid value, or with keys that contradict each other.

    Raises:
        UserError: naming the key to change.
    """
    check_values(cfg)
    if cfg.MODEL.BACKBONE.NAME == "build_torchvision_fpn_backbone":
        _check_torchvision(cfg)
    _check_roi_heads(cfg)
    _check_detection(cfg)
    if cfg.MODEL.MASKIOU_ON:
        _check_mask_head(cfg)
        _check_maskiou_head(cfg)
    elif cfg.MODEL.ROI_MASK_HEAD.RANK_BY == "mask_score":
        raise UserError(
            "MODEL.ROI_MASK_HEAD.RANK_BY 'mask_score' needs MODEL.MASKIOU_ON True: without a "
            "MaskIoU head there are no mask scores"
        )


def _supports(roi_heads: type) -> frozenset[str]:
    return getattr(roi_heads, "supports", frozenset())


def _check_roi_heads(cfg: CfgNode) -> None:
    name = cfg.MODEL.ROI_HEADS.NAME
    for feature, choice in required_features(cfg).items():
        if feature not in _supports(ROI_HEADS_REGISTRY.get(name)):
            able = [n for n, heads in ROI_HEADS_REGISTRY if feature in _supports(heads)]
            raise UserError(
                f"MODEL.ROI_HEADS.NAME '{name}' does not support {choice}; these do: "
                f"{', '.join(able)}"
            )


def _check_detection(cfg: CfgNode) -> None:
    """Rejects models whose inference does not support test-time augmentation or a fit."""
    for key in ("TEST.AUG.ENABLED", "SOLVER.FIT_SCORES"):
        if value_of(cfg, key):
            check_rcnn(cfg, key)
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.TEST.AUG.ENABLED and cfg.MODEL[key]:
            raise UserError(f"TEST.AUG.ENABLED does not support MODEL.{key}: set one of them False")


def _check_torchvision(cfg: CfgNode) -> None:
    models = torchvision.models.list_models(module=torchvision.models)
    check_choice("MODEL.TORCHVISION.NAME", cfg.MODEL.TORCHVISION.NAME, models)
    check_choice("MODEL.TORCHVISION.NORM", cfg.MODEL.TORCHVISION.NORM, NORMS)


def _check_mask_head(cfg: CfgNode) -> None:
    if not cfg.MODEL.MASK_ON:
        raise UserError("MODEL.MASKIOU_ON needs masks to score: set MODEL.MASK_ON True")
    name = cfg.MODEL.ROI_MASK_HEAD.NAME
    head = ROI_MASK_HEAD_REGISTRY.get(name)
    res5 = is_res5(cfg.MODEL.ROI_HEADS.NAME)
    stock = "MaskScoringRes5Head" if res5 else "MaskScoringHead"
    if not issubclass(head, MaskScoring):
        fix = f"set MODEL.ROI_MASK_HEAD.NAME {scoring_mask_head(name, res5)}"
        if reason := why_not_scored(head, by_config=True):
            fix = f"{reason}; set MODEL.MASKIOU_ON False, or MODEL.ROI_MASK_HEAD.NAME {stock}"
        raise UserError(
            f"MODEL.MASKIOU_ON is True, but the mask head '{name}' does not score masks: {fix}"
        )
    if head.features_from_res5 != res5:
        raise UserError(
            f"MODEL.ROI_MASK_HEAD.NAME '{name}' does not fit MODEL.ROI_HEADS.NAME "
            f"'{cfg.MODEL.ROI_HEADS.NAME}': set it to {stock}, or create your own head with "
            f"with_mask_scoring(head, features_from_res5={res5})"
        )
    scorer = cfg.MODEL.ROI_MASKIOU_HEAD.NAME
    own_feature = ROI_MASKIOU_HEAD_REGISTRY.get(scorer).uses_mask_features
    if own_feature and not issubclass(head, MaskRCNNConvUpsampleHead):
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.NAME '{scorer}' takes the feature before the deconvolution of "
            f"Detectron2's mask head, which '{name}' does not have; set it to MaskIoUHead"
        )


def _check_maskiou_head(cfg: CfgNode) -> None:
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    inputs = ROI_MASKIOU_HEAD_REGISTRY.get(head.NAME).inputs
    if head.INPUT not in inputs:
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.INPUT is '{head.INPUT}'; allowed for {head.NAME}: "
            f"{', '.join(map(repr, inputs))}"
        )
    if head.FALSE_POSITIVES == "zero" and head.SAMPLES != "detections":
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES 'zero' needs SAMPLES 'detections': foreground "
            "proposals all have an instance"
        )
    if head.ONE_PER_INSTANCE and head.SAMPLES != "detections":
        raise UserError("MODEL.ROI_MASKIOU_HEAD.ONE_PER_INSTANCE needs SAMPLES 'detections'")
    if head.INPUT_CONTEXT and not (cfg.SOLVER.FIT_SCORES and head.SAMPLES == "detections"):
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.INPUT_CONTEXT needs SOLVER.FIT_SCORES True and SAMPLES "
            "'detections': only detections have a context"
        )
    check_detections_from(cfg)
    if not TARGETS[head.TARGET].counts_zero:
        return
    if head.SAMPLES == "detections":
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.TARGET '{head.TARGET}' is only for SAMPLES 'proposals'"
        )
    if head.LOSS_TYPE == "l2_rank":
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE 'l2_rank' compares masks in pairs and is only for "
            "TARGET 'target_class', which has one sample per mask"
        )
    if head.MASKIOU_THRESH != 0:
        raise UserError(
            "MODEL.ROI_MASKIOU_HEAD.MASKIOU_THRESH is only for TARGET 'target_class': the other "
            "targets also train on samples of MaskIoU 0"
        )


def check_detections_from(cfg: CfgNode) -> None:
    """Rejects a training that would end before its training on detections begins.

    Raises:
        UserError: naming the key and the iterations of the training.
    """
    start = cfg.MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM
    if trains_on_detections(cfg) and not 0 <= start < cfg.SOLVER.MAX_ITER:
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM is {start}; it must be an iteration of the "
            f"training, from 0 to below SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER}"
        )
