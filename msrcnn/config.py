"""Every config key of msrcnn, with its default and meaning; the configs by name."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from .errors import UserError

CONFIG_ROOT = Path(__file__).parent / "configs"


def add_msrcnn_config(cfg: CfgNode) -> None:
    """Add the keys of Mask Scoring R-CNN to a Detectron2 config.

    Args:
        cfg: changed in place.
    """
    # Add the MaskIoU head and use it; off, the model is plain Mask R-CNN.
    cfg.MODEL.MASKIOU_ON = False
    # The mask head that carries the MaskIoU head; without one it is Detectron2's.
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"

    cfg.MODEL.ROI_MASKIOU_HEAD = CfgNode()
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    head.NAME = "MaskIoUHead"  # or "MaskIoULiteHead", "MaskConfidenceHead"
    head.NUM_CONV = 4  # 3 x 3 convolutions, the last with stride 2
    head.CONV_DIM = 256
    head.NUM_FC = 2  # hidden fully connected layers
    head.FC_DIM = 1024
    head.NORM = ""  # of the convolutions, see detectron2.layers.get_norm
    # How RoI feature and predicted mask make up the input (paper table 1): "concat", "multiply",
    # "all_masks", "high_res".
    head.INPUT = "concat"
    # Which outputs are trained (paper table 2): "target_class", "all_classes",
    # "positive_classes".
    head.TARGET = "target_class"
    # Train on samples whose MaskIoU is above it (paper table 3); TARGET "target_class" alone.
    head.MASKIOU_THRESH = 0.0
    head.LOSS_TYPE = "l2"  # or "area_weighted_l2", "l2_rank"
    head.LOSS_WEIGHT = 1.0

    # "nms", "soft_linear" or "soft_gaussian". Soft-NMS, the input "high_res" and the targets but
    # "target_class" need MODEL.ROI_HEADS.NAME MaskScoring{,Res5,Cascade}ROIHeads.
    cfg.MODEL.ROI_HEADS.NMS_TYPE = "nms"
    cfg.MODEL.ROI_HEADS.SOFT_NMS_SIGMA = 0.5  # of "soft_gaussian"
    # A box whose score Soft-NMS has lowered below it is dropped. NMS_THRESH_TEST is the IoU from
    # which "soft_linear" lowers scores.
    cfg.MODEL.ROI_HEADS.SOFT_NMS_MIN_SCORE = 0.001

    # For each feature map of the RPN the anchors of a cell, each as [x0, y0, x1, y1] in pixels from
    # the cell's origin; used by MODEL.ANCHOR_GENERATOR.NAME "GivenAnchorGenerator" alone.
    cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS = []

    # Names of the classes by index, for pictures; set for own data and by an export. () takes those
    # of the dataset.
    cfg.DATASETS.CLASS_NAMES = ()

    # What counts average precision: "hotcoco", or "pycocotools", the slower reference.
    cfg.TEST.COCO_ENGINE = "hotcoco"
    # Draws of images for the confidence interval of what mask scores gain; 0: no interval.
    cfg.TEST.BOOTSTRAP = 1000

    # "sgd" (Detectron2's, with momentum), or "adamw", which gets further from scratch in the few
    # steps of a quick run.
    cfg.SOLVER.OPTIMIZER = "sgd"
    # Train only parameters whose name contains one of these, such as ("maskiou_head",), and leave
    # everything else exactly as it is; () trains everything.
    cfg.SOLVER.TRAIN_ONLY = ()
    # Checkpoints of a run to keep, the last ones; 0 keeps all.
    cfg.SOLVER.CHECKPOINT_KEEP = 0
    # Save one too whenever the last is so many minutes old, for machines that may be taken away;
    # 0: only every SOLVER.CHECKPOINT_PERIOD steps.
    cfg.SOLVER.CHECKPOINT_MINUTES = 0
    # Keep the best checkpoint, model_best.pth, by a metric of the evaluation, such as
    # "segm_mask_score/AP"; "" keeps none.
    cfg.SOLVER.KEEP_BEST = ""
    # Scale learning rate, schedule, warm-up and periods linearly from the 16 images a step that
    # the configs are written for to SOLVER.IMS_PER_BATCH.
    cfg.SOLVER.AUTO_SCALE = False


def get_msrcnn_cfg() -> CfgNode:
    """Detectron2's default config with the keys of Mask Scoring R-CNN added."""
    cfg = get_cfg()
    add_msrcnn_config(cfg)
    return cfg


def get_config_file(name: str) -> str:
    """Path of a config that comes with msrcnn.

    Args:
        name: its path below ``configs/``, such as
            ``"COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"``.

    Raises:
        FileNotFoundError: if there is none of that name; the message names the nearest ones.
    """
    path = CONFIG_ROOT / name
    if not path.is_file():
        known = sorted(str(p.relative_to(CONFIG_ROOT)) for p in CONFIG_ROOT.rglob("*.yaml"))
        near = difflib.get_close_matches(name, known, cutoff=0.5) or known
        raise FileNotFoundError(f"no config '{name}' in msrcnn; did you mean: {', '.join(near)}?")
    return str(path)


def get_config(name: str) -> CfgNode:
    """A config that comes with msrcnn, as ``detectron2.model_zoo.get_config`` gives its own.

    Args:
        name: its path below ``configs/``.

    Returns:
        The complete config, not frozen.
    """
    cfg = get_msrcnn_cfg()
    cfg.merge_from_file(get_config_file(name), allow_unsafe=False)
    return cfg


def check_choice(key: str, value: str, allowed: Iterable[str]) -> None:
    """Refuse an unknown value of a config key that is a choice.

    Raises:
        UserError: naming the key, the value and what is allowed; a ``ValueError``.
    """
    allowed = list(allowed)
    if value not in allowed:
        raise UserError(f"{key} is '{value}'; allowed: {', '.join(map(repr, allowed))}")
