"""Rules about single values of a config: their types, ranges and names."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY

from ..config import SEED_LIMIT, get_msrcnn_cfg
from ..config_by_key import flatten, value_of
from ..errors import UserError
from ..escaping import shown
from ..evaluation import ENGINES
from ..modeling import MASKIOU_LOSS_REGISTRY, ROI_MASKIOU_HEAD_REGISTRY
from ..modeling.deform_resnet import NUM_BLOCKS
from ..modeling.mask_score import RANKINGS
from ..modeling.maskiou_input import INPUT_DESIGNS
from ..modeling.maskiou_samples import TARGETS
from ..modeling.number_format import DTYPES
from ..modeling.soft_nms import NMS_TYPES
from .gradient_step import AMP_DTYPES
from .optimizer import OPTIMIZERS

POOLERS = ("ROIAlignV2", "ROIAlign", "ROIPool")  # of boxes that are not rotated
CHANNELS = {"BGR": 3, "RGB": 3, "L": 1}  # of INPUT.FORMAT
DEVICES = ("cuda", "cpu", "mps", "meta")
INFINITY = math.inf
BASIC_BLOCKS = (18, 34)  # depths of ResNets without bottlenecks

# Config keys whose value is one of a list, with a function that returns the list: other projects
# can register parts of their own.
CHOICES: dict[str, Callable[[], Iterable]] = {
    "DATALOADER.SAMPLER_TRAIN": lambda: (
        *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
    ),
    "INPUT.CROP.TYPE": lambda: ("relative", "relative_range", "absolute", "absolute_range"),
    "INPUT.FORMAT": lambda: CHANNELS,
    "INPUT.MASK_FORMAT": lambda: ("polygon", "bitmask"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": lambda: ("choice", "range"),
    "INPUT.RANDOM_FLIP": lambda: ("horizontal", "vertical", "none"),
    "MODEL.ANCHOR_GENERATOR.NAME": lambda: dict(modeling.ANCHOR_GENERATOR_REGISTRY),
    "MODEL.BACKBONE.NAME": lambda: dict(modeling.BACKBONE_REGISTRY),
    "MODEL.FPN.FUSE_TYPE": lambda: ("sum", "avg"),
    "MODEL.META_ARCHITECTURE": lambda: dict(modeling.META_ARCH_REGISTRY),
    "MODEL.PROPOSAL_GENERATOR.NAME": lambda: (
        *dict(modeling.PROPOSAL_GENERATOR_REGISTRY),
        "PrecomputedProposals",
    ),
    "MODEL.RESNETS.DEPTH": lambda: NUM_BLOCKS,
    "MODEL.ROI_BOX_HEAD.NAME": lambda: (*dict(modeling.ROI_BOX_HEAD_REGISTRY), ""),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": lambda: POOLERS,
    "MODEL.ROI_HEADS.NAME": lambda: dict(modeling.ROI_HEADS_REGISTRY),
    "MODEL.ROI_HEADS.NMS_TYPE": lambda: NMS_TYPES,
    "MODEL.ROI_MASK_HEAD.NAME": lambda: dict(ROI_MASK_HEAD_REGISTRY),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": lambda: POOLERS,
    "MODEL.ROI_MASK_HEAD.RANK_BY": lambda: RANKINGS,
    "MODEL.ROI_MASKIOU_HEAD.NAME": lambda: dict(ROI_MASKIOU_HEAD_REGISTRY),
    "MODEL.ROI_MASKIOU_HEAD.INPUT": lambda: INPUT_DESIGNS,
    "MODEL.ROI_MASKIOU_HEAD.TARGET": lambda: TARGETS,
    "MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE": lambda: dict(MASKIOU_LOSS_REGISTRY),
    "MODEL.ROI_MASKIOU_HEAD.SAMPLES": lambda: ("proposals", "detections"),
    "MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES": lambda: ("ignore", "zero"),
    "MODEL.RPN.HEAD_NAME": lambda: dict(modeling.RPN_HEAD_REGISTRY),
    "SOLVER.AMP.DTYPE": lambda: AMP_DTYPES,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": lambda: ("value", "norm"),
    "SOLVER.LR_SCHEDULER_NAME": lambda: (
        *("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    ),
    "SOLVER.OPTIMIZER": lambda: OPTIMIZERS,
    "SOLVER.WARMUP_METHOD": lambda: ("linear", "constant"),
    "TEST.COCO_ENGINE": lambda: ENGINES,
    "TEST.DTYPE": lambda: DTYPES,
}

# Keys by section, with the lowest and highest value.
_SECTIONS: dict[str, dict[str, tuple[float, float]]] = {
    "DATALOADER": {"NUM_WORKERS": (0, INFINITY)},
    "INPUT": {
        "MIN_SIZE_TRAIN": (1, INFINITY),
        "MAX_SIZE_TRAIN": (1, INFINITY),
        "MIN_SIZE_TEST": (0, INFINITY),  # 0: no resizing
        "MAX_SIZE_TEST": (1, INFINITY),
    },
    "MODEL": {"PIXEL_MEAN": (-INFINITY, INFINITY)},
    "MODEL.ANCHOR_GENERATOR": {"OFFSET": (0, 1)},
    "MODEL.FPN": {"OUT_CHANNELS": (1, INFINITY)},
    "MODEL.ROI_BOX_HEAD": {
        "POOLER_RESOLUTION": (1, INFINITY),
        "POOLER_SAMPLING_RATIO": (0, INFINITY),
        "NUM_CONV": (0, INFINITY),
        "CONV_DIM": (1, INFINITY),
        "NUM_FC": (0, INFINITY),
        "FC_DIM": (1, INFINITY),
    },
    "MODEL.ROI_HEADS": {
        "NUM_CLASSES": (1, INFINITY),
        "BATCH_SIZE_PER_IMAGE": (1, INFINITY),
        "POSITIVE_FRACTION": (0, 1),
        "SCORE_THRESH_TEST": (0, 1),
        "NMS_THRESH_TEST": (0, 1),
        "SOFT_NMS_MIN_SCORE": (0, 1),
    },
    "MODEL.ROI_MASK_HEAD": {
        "POOLER_RESOLUTION": (1, INFINITY),
        "POOLER_SAMPLING_RATIO": (0, INFINITY),
        "NUM_CONV": (0, INFINITY),
        "CONV_DIM": (1, INFINITY),
    },
    "MODEL.ROI_MASKIOU_HEAD": {
        "NUM_CONV": (1, INFINITY),
        "CONV_DIM": (1, INFINITY),
        "NUM_FC": (0, INFINITY),
        "FC_DIM": (1, INFINITY),
        "LOSS_WEIGHT": (0, INFINITY),
        "MASKIOU_THRESH": (0, 1),
        "SCORE_EXPONENT": (0, INFINITY),
        "CONFIDENCE_EXPONENT": (0, INFINITY),
    },
    "MODEL.RPN": {
        "BATCH_SIZE_PER_IMAGE": (1, INFINITY),
        "POSITIVE_FRACTION": (0, 1),
        "NMS_THRESH": (0, 1),
        "LOSS_WEIGHT": (0, INFINITY),
        "PRE_NMS_TOPK_TRAIN": (1, INFINITY),
        "PRE_NMS_TOPK_TEST": (1, INFINITY),
        "POST_NMS_TOPK_TRAIN": (1, INFINITY),
        "POST_NMS_TOPK_TEST": (1, INFINITY),
    },
    "SOLVER": {
        "IMS_PER_BATCH": (1, INFINITY),
        "MAX_ITER": (1, INFINITY),
        "STEPS": (1, INFINITY),
        "MOMENTUM": (0, 1),
        "WEIGHT_DECAY": (0, INFINITY),
        "WARMUP_ITERS": (0, INFINITY),
        "WARMUP_FACTOR": (0, INFINITY),
        "CHECKPOINT_PERIOD": (1, INFINITY),
        "CHECKPOINT_KEEP": (0, INFINITY),
        "CHECKPOINT_MINUTES": (0, INFINITY),
        "REFERENCE_WORLD_SIZE": (0, INFINITY),
        "REFERENCE_BATCH": (1, INFINITY),
        "EPOCHS": (0, INFINITY),
        "EARLY_STOP": (0, INFINITY),
        "ACCUMULATE_STEPS": (1, INFINITY),
        "FIT_IMAGES": (0, INFINITY),
        "FIT_VIEWS": (1, INFINITY),
        "FIT_MAX_ITER": (1, INFINITY),
        "FIT_BATCH": (1, INFINITY),
        "FIT_WEIGHT_DECAY": (0, INFINITY),
    },
    "TEST": {
        "DETECTIONS_PER_IMAGE": (1, INFINITY),
        "EVAL_PERIOD": (0, INFINITY),
        "BOOTSTRAP": (0, INFINITY),
        "CONFIDENCE_EXPONENT": (0, INFINITY),
    },
    "TEST.AUG": {"MIN_SIZES": (1, INFINITY), "MAX_SIZE": (1, INFINITY)},
}
RANGES = {
    f"{section}.{key}": limits
    for section, keys in _SECTIONS.items()
    for key, limits in keys.items()
}
ABOVE_0 = (
    *("INPUT.CROP.SIZE", "MODEL.PIXEL_STD", "MODEL.ROI_HEADS.SOFT_NMS_SIGMA"),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
    *("SOLVER.BASE_LR", "SOLVER.GAMMA", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "SOLVER.FIT_BASE_LR"),
)
MAY_BE_EMPTY = ("SOLVER.STEPS",)  # although its default is not
NAMES = ("DATASETS.TRAIN", "DATASETS.TEST", "DATASETS.CLASS_NAMES", "SOLVER.TRAIN_ONLY")
NORMS = tuple(
    f"MODEL.{part}.NORM"
    for part in ("RESNETS", "FPN", "ROI_BOX_HEAD", "ROI_MASK_HEAD", "ROI_MASKIOU_HEAD")
)


def check_values(cfg: CfgNode) -> None:
    """Rejects values that no model, data loader or solver could be built with.

    Raises:
        UserError: naming the key, its value and what it may be.
    """
    for key, default in flatten(get_msrcnn_cfg()).items():
        _check_type(key, value_of(cfg, key), default)
    for key, allowed in CHOICES.items():
        check_choice(key, value_of(cfg, key), allowed())
    for key, (low, high) in RANGES.items():
        for number in _numbers(value_of(cfg, key)):
            if not low <= number <= high:
                raise UserError(f"{key} is {_shown(cfg, key)}; it must be {range_in_words(key)}")
    for key in ABOVE_0:
        if not all(number > 0 for number in _numbers(value_of(cfg, key))):
            raise UserError(f"{key} is {_shown(cfg, key)}; it must be {range_in_words(key)}")
    for key in NAMES:
        if not all(isinstance(name, str) for name in value_of(cfg, key)):
            raise UserError(f"{key} is {_shown(cfg, key)}; it must be a tuple of names")
    for key in NORMS:
        try:
            get_norm(value_of(cfg, key), 32)
        except KeyError:
            raise UserError(
                f"{key} is {_shown(cfg, key)}; 'BN', 'SyncBN', 'FrozenBN', 'GN' and '' are usual"
            ) from None
    _check_device(cfg.MODEL.DEVICE)
    _check_combinations(cfg)


def check_amp(cfg: CfgNode) -> None:
    """Rejects a training in float16 on the CPU. A trained model does not use ``SOLVER.AMP``.

    Raises:
        UserError: naming the key.
    """
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "float16" and cfg.MODEL.DEVICE == "cpu":
        raise UserError(
            "SOLVER.AMP.DTYPE 'float16' needs a GPU, but MODEL.DEVICE is 'cpu': set it to bfloat16"
        )


def range_in_words(key: str) -> str:
    """Returns the limits of a key's numbers, such as "at least 1"; "" if it has none."""
    if key in ABOVE_0:
        return "above 0"
    low, high = RANGES.get(key, (-INFINITY, INFINITY))
    if high != INFINITY:
        return f"from {low} to {high}"
    return "" if low == -INFINITY else f"at least {low}"


def check_choice(key: str, value: object, allowed: Iterable) -> None:
    """Rejects an unknown value of a config key.

    Raises:
        UserError: naming the key, the value and the allowed values.
    """
    allowed = list(allowed)
    if value not in allowed:
        raise UserError(f"{key} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def _check_type(key: str, value: object, default: object) -> None:
    """Rejects what yacs accepts: ``None``, infinite numbers, elements of another type."""
    if value is None and default is not None:
        raise UserError(f"{key} is None; its default is {shown(default)}")
    numbers = [number for number in _numbers(value) if isinstance(number, int | float)]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{key} is {shown(value)}; it must be finite")
    usual = [type(element) for element in _numbers(default)]
    if isinstance(default, list | tuple) and usual and isinstance(value, list | tuple):
        allowed = (int, float) if float in usual else tuple(set(usual))
        elements = list(_numbers(value))
        empty = not elements and key not in MAY_BE_EMPTY
        flat = not any(isinstance(element, list | tuple) for element in default)
        nested = flat and any(isinstance(element, list | tuple) for element in value)
        if empty or nested or not all(type(element) in allowed for element in elements):
            raise UserError(f"{key} is {shown(value)}; its default is {shown(default)}")


def _numbers(value: object) -> Iterator:
    """Yields the elements of nested lists and tuples."""
    if isinstance(value, list | tuple):
        for element in value:
            yield from _numbers(element)
    else:
        yield value


def _shown(cfg: CfgNode, key: str) -> str:
    return shown(value_of(cfg, key))


def _check_device(name: str) -> None:
    try:
        known = torch.device(name).type in DEVICES
    except RuntimeError:
        known = False
    if not known:
        raise UserError(f"MODEL.DEVICE is '{name}'; allowed: 'cuda', 'cuda:N', 'cpu', 'mps'")


def _check_combinations(cfg: CfgNode) -> None:
    if not cfg.OUTPUT_DIR:
        raise UserError("OUTPUT_DIR is ''; name a folder")
    if cfg.SEED >= SEED_LIMIT:
        raise UserError(f"SEED is {cfg.SEED}; it must be below {SEED_LIMIT}")
    resnet = cfg.MODEL.RESNETS
    if (
        "resnet" in cfg.MODEL.BACKBONE.NAME
        and resnet.DEPTH in BASIC_BLOCKS
        and resnet.RES2_OUT_CHANNELS != 64
    ):
        raise UserError(
            f"MODEL.RESNETS.DEPTH {resnet.DEPTH} needs MODEL.RESNETS.RES2_OUT_CHANNELS 64, not "
            f"{resnet.RES2_OUT_CHANNELS}"
        )
    steps = list(cfg.SOLVER.STEPS)
    if steps != sorted(set(steps)):
        raise UserError(f"SOLVER.STEPS is {tuple(steps)}; iterations must increase")
    channels = CHANNELS[cfg.INPUT.FORMAT]
    for key in ("PIXEL_MEAN", "PIXEL_STD"):
        if len(cfg.MODEL[key]) != channels:
            raise UserError(
                f"MODEL.{key} has {len(cfg.MODEL[key])} values; INPUT.FORMAT '{cfg.INPUT.FORMAT}' "
                f"needs {channels}"
            )
    if cfg.INPUT.MIN_SIZE_TEST > cfg.INPUT.MAX_SIZE_TEST:
        raise UserError(
            f"INPUT.MIN_SIZE_TEST {cfg.INPUT.MIN_SIZE_TEST} is above INPUT.MAX_SIZE_TEST "
            f"{cfg.INPUT.MAX_SIZE_TEST}"
        )
    calibration = cfg.MODEL.ROI_MASKIOU_HEAD.CALIBRATION
    if len(calibration) and not (_is_pair(calibration) and calibration[0] > 0):
        raise UserError(
            f"MODEL.ROI_MASKIOU_HEAD.CALIBRATION is {shown(calibration)}; it must be () or a slope "
            "above 0 and an offset"
        )
    values = cfg.INPUT.VALUE_RANGE
    if len(values) and not (_is_pair(values) and values[0] < values[1]):
        raise UserError(
            f"INPUT.VALUE_RANGE is {shown(values)}; it must be () or two numbers, the values that "
            "become black and white, such as (0, 65535)"
        )
    if not 0 < cfg.SOLVER.FIT_HELD_OUT < 1:
        raise UserError(
            f"SOLVER.FIT_HELD_OUT is {cfg.SOLVER.FIT_HELD_OUT}; it must be between 0 and 1"
        )


def _is_pair(values: Sequence) -> bool:
    return len(values) == 2 and all(type(value) in (int, float) for value in values)
