"""Every config key of msrcnn, with its default and meaning; the configs by name."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from detectron2.config import CfgNode, get_cfg

from .config_mistakes import check_overrides, check_sections, mistake
from .errors import UserError
from .yaml_limits import check_yaml

CONFIG_ROOT = Path(__file__).parent / "configs"
SWEEPS = "ablations"  # its folder of sweeps, which are no configs
RUN_CONFIG = "config.yaml"  # Detectron2 writes it to the output folder of a run
REFERENCE_BATCH = 16  # images per batch that Detectron2's schedules are written for
# What yacs raises for a key or value that does not fit, and Python for one that is nested too deep.
MERGE_ERRORS = (
    *(AssertionError, AttributeError, KeyError, TypeError, ValueError),
    *(MemoryError, RecursionError),
)
SEED_LIMIT = 2**31  # SEED must be below it


def add_msrcnn_config(cfg: CfgNode) -> None:
    """Adds the config keys of Mask Scoring R-CNN to a Detectron2 config.

    The comments are the text of docs/config.md, with the allowed values of
    :mod:`msrcnn.engine.config_values`; ``make format`` writes it.

    Args:
        cfg: a Detectron2 config; modified in place.
    """
    # Add the MaskIoU head, which gives each mask a mask score. False: plain Mask R-CNN.
    cfg.MODEL.MASKIOU_ON = False
    # The mask head that holds the MaskIoU head. With MODEL.MASKIOU_ON False it is Detectron2's mask
    # head. C4 models use "MaskScoringRes5Head".
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskScoringHead"
    # What the field `scores` of the detections contains. "mask_score" is for programs that rank by
    # `scores`; box scores are then in `box_scores`. The detections stay in the order of their box
    # scores. Evaluations report both rankings with either value.
    cfg.MODEL.ROI_MASK_HEAD.RANK_BY = "box_score"

    # The MaskIoU head and its training.
    cfg.MODEL.ROI_MASKIOU_HEAD = CfgNode()
    head = cfg.MODEL.ROI_MASKIOU_HEAD
    # "MaskIoUHead" is the paper's, "MaskIoULiteHead" has no convolutions of its own, and
    # "MaskConfidenceHead" has no parameters at all.
    head.NAME = "MaskIoUHead"
    head.NUM_CONV = 4  # Number of 3x3 convolutions; the last one has stride 2.
    head.CONV_DIM = 256  # Output channels of each convolution.
    head.NUM_FC = 2  # Number of hidden fully connected layers.
    head.FC_DIM = 1024  # Output size of each hidden fully connected layer.
    head.NORM = ""  # Normalization of the convolutions, see `detectron2.layers.get_norm`.
    # How the RoI feature and the predicted mask are combined (paper, table 1): the mask of the
    # target class next to the feature ("concat") or times it ("multiply"), the masks of all classes
    # next to it ("all_masks"), or the mask in its full resolution next to a finer feature
    # ("high_res").
    head.INPUT = "concat"
    # Which outputs are trained (paper, table 2): that of the ground-truth class of each proposal,
    # those of all classes, or those of the classes that have an instance in the proposal.
    head.TARGET = "target_class"
    # Train only on samples whose MaskIoU is above this threshold (paper, table 3). Only for
    # TARGET "target_class".
    head.MASKIOU_THRESH = 0.0
    # "l2" is the paper's loss. "area_weighted_l2" gives small instances more weight, and "l2_rank"
    # adds a ranking loss between masks of similar size.
    head.LOSS_TYPE = "l2"
    head.LOSS_WEIGHT = 1.0  # Weight of `loss_maskiou` in the total loss.
    # Samples that the head is trained on: "proposals" (the paper), or "detections" of the model
    # itself. A fit (SOLVER.FIT_SCORES, `msrcnn fit-scores`) collects the detections once, after the
    # training. Without a fit, every training step uses those of the current model, which needs
    # MODEL.ROI_HEADS.NAME MaskScoring{,Cascade}ROIHeads.
    head.SAMPLES = "proposals"
    # Training iteration from which SAMPLES "detections" takes effect; before it, the head is
    # trained on proposals. Not for a fit.
    head.DETECTIONS_FROM = 0
    # Detections without an instance: "ignore" (the paper), or "zero" to train them towards a
    # MaskIoU of 0, so that the score also tells whether there is an object. Only for SAMPLES
    # "detections".
    head.FALSE_POSITIVES = "ignore"
    # Of several detections that match the same instance, count all but the one with the highest box
    # score as detections without an instance, as COCO's evaluation does. Only for SAMPLES
    # "detections".
    head.ONE_PER_INSTANCE = False
    # Also input the size of the box and statistics of the mask, see modeling/mask_scalars.py.
    head.INPUT_SCALARS = False
    # Also input the overlaps with detections of the image that have a higher box score, see
    # modeling/detection_context.py. Only for a fit.
    head.INPUT_CONTEXT = False
    # Exponent of MaskIoU in the mask score, which is
    # `box score * MaskIoU ** SCORE_EXPONENT * mask confidence ** CONFIDENCE_EXPONENT`; 1 and 0 are
    # the paper's.
    head.SCORE_EXPONENT = 1.0
    head.CONFIDENCE_EXPONENT = 0.0  # Exponent of mask confidence in the mask score.
    # Slope and offset of the probability that a mask is correct, see modeling/mask_score.py. A fit
    # sets them together with the exponents. (): the model predicts no probability.
    head.CALIBRATION = ()

    # NMS or Soft-NMS. Soft-NMS and any MODEL.ROI_MASKIOU_HEAD.TARGET other than "target_class" need
    # MODEL.ROI_HEADS.NAME MaskScoring{,Res5,Cascade}ROIHeads, and MODEL.ROI_MASKIOU_HEAD.INPUT
    # "high_res" needs MaskScoring{,Cascade}ROIHeads. Commands choose them by themselves in place of
    # Detectron2's.
    cfg.MODEL.ROI_HEADS.NMS_TYPE = "nms"
    cfg.MODEL.ROI_HEADS.SOFT_NMS_SIGMA = 0.5  # Sigma of "soft_gaussian".
    # Drop boxes whose score Soft-NMS has lowered below this value. "soft_linear" lowers the scores
    # of boxes whose IoU is at least NMS_THRESH_TEST.
    cfg.MODEL.ROI_HEADS.SOFT_NMS_MIN_SCORE = 0.001

    # Anchors of one cell for each RPN feature map, each [x0, y0, x1, y1] in pixels relative to the
    # cell. Only for MODEL.ANCHOR_GENERATOR.NAME "GivenAnchorGenerator".
    cfg.MODEL.ANCHOR_GENERATOR.CELL_ANCHORS = []

    # The backbone of MODEL.BACKBONE.NAME "build_torchvision_fpn_backbone".
    cfg.MODEL.TORCHVISION = CfgNode()
    # A classification model of torchvision with features of stride 4, 8, 16 and 32.
    # MODEL.BACKBONE.FREEZE_AT n >= 1 freezes all its blocks up to stride 2 ** n.
    cfg.MODEL.TORCHVISION.NAME = "mobilenet_v2"
    # "FrozenBN": all batch norms keep their statistics and parameters; "BN": they are trained.
    cfg.MODEL.TORCHVISION.NORM = "FrozenBN"

    # Class names of the model by index, by which it is matched with its data. Set from the weights
    # or the training data. (): unknown.
    cfg.DATASETS.CLASS_NAMES = ()

    # The values that become black (0) and white (255) in images of more than 8 bits, such as
    # (0, 65535), or (0, 4095) for a camera of 12 bits; those beyond are clipped. Images of 8 bits
    # are left as they are. (): all images have 8 bits, and others are an error.
    cfg.INPUT.VALUE_RANGE = ()

    # Library that computes AP; "pycocotools" is the slower reference.
    cfg.TEST.COCO_ENGINE = "hotcoco"
    # Bootstrap samples for the confidence interval of the mask score's gain; 0 disables it. Not for
    # the evaluations within a training (TEST.EVAL_PERIOD).
    cfg.TEST.BOOTSTRAP = 1000

    # Number format that the model computes in, in evaluation and prediction: "float32", "bfloat16",
    # or "float16", which needs a GPU: on a CPU it becomes "float32".
    cfg.TEST.DTYPE = "float32"

    # Exponent of mask confidence in the ranking "mask AP by mask confidence".
    cfg.TEST.CONFIDENCE_EXPONENT = 1.0

    # "sgd" is Detectron2's; "adamw" learns more from scratch in a short schedule.
    cfg.SOLVER.OPTIMIZER = "sgd"
    # Train only the parameters whose name contains one of these strings, e.g. ("maskiou_head",),
    # and leave the rest of the model unchanged. () trains everything.
    cfg.SOLVER.TRAIN_ONLY = ()
    # Number of most recent checkpoints to keep; 0 keeps all.
    cfg.SOLVER.CHECKPOINT_KEEP = 0
    # Also save a checkpoint whenever the last one is this many minutes old, for machines that can
    # be preempted; 0 saves only every SOLVER.CHECKPOINT_PERIOD iterations.
    cfg.SOLVER.CHECKPOINT_MINUTES = 0
    # Keep the best checkpoint as model_best.pth, by an evaluation metric such as
    # "segm_mask_score/AP". "" disables it.
    cfg.SOLVER.KEEP_BEST = ""
    # End the training after this many evaluations in a row without a new best one by KEEP_BEST; 0
    # disables it.
    cfg.SOLVER.EARLY_STOP = 0
    # Compute the gradients of a batch in this many parts, if the whole batch does not fit into
    # memory. IMS_PER_BATCH remains the number of images of one step. Losses are averaged over the
    # parts, as over GPUs.
    cfg.SOLVER.ACCUMULATE_STEPS = 1
    # Number format of SOLVER.AMP.ENABLED: "float16", which needs a GPU, or "bfloat16".
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Fit the MaskIoU head to the detections on the training images after training, which needs
    # MODEL.ROI_MASKIOU_HEAD.SAMPLES "detections". `msrcnn fit-scores` also sets FALSE_POSITIVES
    # "zero" and INPUT_SCALARS True by default.
    cfg.SOLVER.FIT_SCORES = False
    cfg.SOLVER.FIT_IMAGES = 0  # Training images to detect on, drawn at random; 0 for all.
    # How often to detect on each training image: once as in evaluation, then at sizes of
    # INPUT.MIN_SIZE_TRAIN, and every second time mirrored if INPUT.RANDOM_FLIP is "horizontal".
    cfg.SOLVER.FIT_VIEWS = 1
    cfg.SOLVER.FIT_MAX_ITER = 600  # Iterations of the fit.
    cfg.SOLVER.FIT_BATCH = 128  # Detections per iteration.
    cfg.SOLVER.FIT_BASE_LR = 0.001  # Peak of the one-cycle schedule.
    cfg.SOLVER.FIT_WEIGHT_DECAY = 0.01  # Weight decay of the fit.
    # Share of the training images that are held out to choose the best iteration and exponents,
    # and to calibrate; between 0 and 1.
    cfg.SOLVER.FIT_HELD_OUT = 0.1
    # Choose MODEL.ROI_MASKIOU_HEAD.SCORE_EXPONENT, CONFIDENCE_EXPONENT and TEST.CONFIDENCE_EXPONENT
    # on the held-out images.
    cfg.SOLVER.FIT_EXPONENTS = True

    # Log the training to this project of Weights & Biases, besides TensorBoard; "" disables it.
    cfg.WANDB = ""

    # Scale learning rate, schedule, warm-up and periods linearly from SOLVER.REFERENCE_BATCH images
    # per batch to SOLVER.IMS_PER_BATCH; with EPOCHS or a MAX_ITER on the command line, only the
    # learning rate.
    cfg.SOLVER.AUTO_SCALE = False
    # Images per batch that learning rate and schedule are written for. Set from the IMS_PER_BATCH
    # of the config file, unless the file itself has AUTO_SCALE True.
    cfg.SOLVER.REFERENCE_BATCH = REFERENCE_BATCH
    # Train for this many passes over the training images: STEPS, EVAL_PERIOD and CHECKPOINT_PERIOD
    # keep their proportion to MAX_ITER, and the warm-up takes at most a tenth. 0: MAX_ITER
    # iterations.
    cfg.SOLVER.EPOCHS = 0


def get_msrcnn_cfg() -> CfgNode:
    """Returns Detectron2's default config with the keys of Mask Scoring R-CNN added."""
    cfg = get_cfg()
    add_msrcnn_config(cfg)
    return cfg


def get_config_file(name: str) -> str:
    """Returns the path of a config that ships with msrcnn.

    Args:
        name: path relative to ``configs/``, e.g.
            ``"COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"``.

    Raises:
        FileNotFoundError: if there is no such config; the message suggests the closest names.
    """
    path = CONFIG_ROOT / name
    if not path.is_file():
        hint = _nearest_configs(name)
        if Path(name).is_file():
            hint = "msrcnn.config.load_config loads config files of your own"
        raise FileNotFoundError(f"no config '{name}' in msrcnn; {hint}")
    return str(path)


def _nearest_configs(name: str) -> str:
    """Says which configs of msrcnn have a name like this one, in whatever folder."""
    files = (path.relative_to(CONFIG_ROOT) for path in CONFIG_ROOT.rglob("*.yaml"))
    known = sorted(str(path) for path in files if path.parts[0] != SWEEPS)
    wanted = str(Path(name or "-").with_suffix(".yaml")).removeprefix("configs/")
    stems: dict[str, list[str]] = {}
    for each in known:
        stems.setdefault(Path(each).stem, []).append(each)
    near = stems.get(Path(wanted).stem)
    if not near and Path(wanted).parent != Path():
        near = difflib.get_close_matches(wanted, known, cutoff=0.7)
    if not near:
        matches = difflib.get_close_matches(Path(wanted).stem, stems, cutoff=0.5)
        near = [each for stem in matches for each in stems[stem]]
    return f"nearest: {', '.join(near)}" if near else f"'{CONFIG_ROOT}' has msrcnn's"


def get_config(name: str) -> CfgNode:
    """Returns a config that ships with msrcnn, like ``detectron2.model_zoo.get_config``.

    Args:
        name: path relative to ``configs/``.

    Returns:
        The complete config, not frozen.
    """
    cfg = get_msrcnn_cfg()
    _merge_file(cfg, get_config_file(name))
    return cfg


def _merge_file(cfg: CfgNode, path: str) -> None:
    """Merges a config file, and notes for which batch it is written."""
    # Configs are untrusted data: with allow_unsafe, YAML could construct any Python object.
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except TypeError:  # Detectron2 looks into sections to guess the version of a config
        check_sections(cfg, cfg.load_yaml_with_base(path, allow_unsafe=False))
        raise
    # The `W.pth` of `W.yaml` is the file beside it, from any working folder: see config_beside.
    config, weights = Path(path), cfg.MODEL.WEIGHTS
    if weights == f"{config.stem}{Path(weights).suffix}" and config.with_name(weights).is_file():
        cfg.MODEL.WEIGHTS = str(config.with_name(weights))
    if not cfg.SOLVER.AUTO_SCALE:
        cfg.SOLVER.REFERENCE_BATCH = cfg.SOLVER.IMS_PER_BATCH


def find_config(config_file: str) -> Path:
    """Returns the path of a config given as a path, or as a name relative to msrcnn's ``configs/``.

    Raises:
        UserError: if there is no such file, or it is a Python config.
    """
    for path in (Path(config_file), CONFIG_ROOT / config_file):
        if path.is_file() and path.suffix == ".py":
            raise UserError(
                f"--config-file '{config_file}' is a Python config (LazyConfig), but the commands "
                "read YAML: use one of msrcnn's YAML configs, or call msrcnn.lazy.add_mask_scoring "
                "in the Python config and train it with Detectron2's lazyconfig_train_net.py"
            )
        if path.is_file():
            return path
    folder = config_file and Path(config_file).is_dir()
    what = "this is a folder, name a file" if folder else "no such file"
    raise UserError(f"--config-file '{config_file}': {what}; {_nearest_configs(config_file)}")


def config_beside(weights: str) -> str:
    """Returns the config in the folder of the weights.

    It is ``W.yaml`` of an export ``W.pth``, or else ``config.yaml``, which a training writes.

    Raises:
        UserError: if there is none.
    """
    exported = Path(weights).with_suffix(".yaml")
    trained = exported.with_name(RUN_CONFIG)
    for path in (exported, trained):
        if path.is_file():
            return str(path)
    raise UserError(f"give --config-file: there is no '{exported}' or '{trained.name}' beside it")


def load_config(config_file: str | Path, opts: Sequence[str] = ()) -> CfgNode:
    """Loads a config file and applies ``KEY VALUE`` overrides.

    Args:
        config_file: see :func:`find_config`.
        opts: alternating keys and values.

    Returns:
        The complete config, not frozen and not checked.

    Raises:
        UserError: if the file is missing or malformed, or a key or value does not fit.
    """
    path = find_config(str(config_file))
    cfg = get_msrcnn_cfg()
    try:
        check_yaml(path)
        _merge_file(cfg, str(path))
    except (*MERGE_ERRORS, OSError, yaml.YAMLError) as error:
        raise UserError(f"config {path}: {mistake(error, cfg)}") from error
    try:
        check_overrides(cfg, opts)
        cfg.merge_from_list(list(opts))
    except MERGE_ERRORS as error:
        raise UserError(f"command line: {mistake(error, cfg)}") from error
    for section, key in ((cfg, "OUTPUT_DIR"), (cfg.MODEL, "WEIGHTS")):
        if isinstance(section[key], str):  # otherwise check_config says so
            section[key] = os.path.expanduser(section[key])
    return cfg
