"""Time of inference with and without mask scores, also compared with other implementations."""

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.modeling import GeneralizedRCNN, build_model
from tabulate import tabulate
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn

from ..engine import prepare_config, use_scoring_parts
from ..engine.device import on_available_device
from ..errors import UserError
from ..evaluation import Detections, with_encoded_masks
from ..modeling.fast_inference import speed_up
from ..modeling.test_time_augmentation import without_maskiou
from .benchmark_config import add_config
from .timing import allocated_mib, measure_in_turn, peak_mib, ratio, text
from .untrained_rpn import keep_anchors

IMAGES = 10  # repeated in turn
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Weights are random: without a threshold, every image has as many detections as the limit allows.
SETTINGS = ("MODEL.MASKIOU_ON", True, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.WEIGHTS", "")
# Ways that are compared: the way, and the one that it is compared with, by the name of the ratio.
RATIOS = {
    "mask scores": ("mask scoring", "mask r-cnn"),
    "mask scores of the lite head": ("lite head", "mask r-cnn"),
    "Soft-NMS instead of NMS": ("soft-nms", "mask scoring"),
    "fast inference": ("fast", "mask scoring"),
    "msrcnn / Detectron2": ("fast", "mask r-cnn"),
    "msrcnn / Detectron2, to RLE": ("to rle", "detectron2 to rle"),
    "msrcnn / torchvision, to masks": ("to rle", "torchvision"),
    "msrcnn / Detectron2 in fp32": ("fast", "mask r-cnn in fp32"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)
    parser.add_argument("--dtype", choices=TYPES, default="fp32", help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="images to measure")


def measure(args: argparse.Namespace) -> dict:
    """Measures untrained models of the same weights on images of ``DATASETS.TEST``, one at a time.

    ``mask r-cnn`` is the model without its MaskIoU head, as Detectron2 runs it. ``fast`` is the
    model as evaluation and prediction run it, see :mod:`msrcnn.modeling.fast_inference`. ``to rle``
    is ``fast`` up to result records, with masks that are encoded without being pasted; ``detectron2
    to rle`` is ``mask r-cnn`` up to result records. ``torchvision`` is its Mask R-CNN at the same
    size up to masks pasted at the size of the file, if the config is a ResNet-50 FPN. In another
    format than fp32, all run under autocast except ``fast``, which enables it for some of its
    parts, and ``mask r-cnn in fp32``.

    Returns:
        ``config``, ``overrides``, ``dtype``; ``detections``, the mean number per image;
        ``seconds`` of each way and repeat; ``ratios``, see ``RATIOS``; ``peak_mib`` of each way on
        a GPU, beyond the weights of all models.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    cfg = on_available_device(
        prepare_config(args.config_file, [*args.opts, *SETTINGS], splits=("TEST",))
    )
    if args.dtype == "fp16" and cfg.MODEL.DEVICE == "cpu":
        raise UserError("--dtype fp16 needs a GPU: use bf16")
    if not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TEST is empty: give a dataset with images to measure with")
    model = _model(cfg)
    soft = cfg.clone()
    soft.MODEL.ROI_HEADS.NMS_TYPE = "soft_linear"
    lite = cfg.clone()
    lite.MODEL.ROI_MASKIOU_HEAD.NAME = "MaskIoULiteHead"
    others = {
        "soft-nms": _model(soft, model),
        "lite head": _model(lite, model),
        "fast": _fast(model, TYPES[args.dtype]),
    }
    inputs = _inputs(cfg)
    numbers: list[int] = []

    def infer(model: GeneralizedRCNN) -> Callable[[int], object]:
        def run(repeat: int) -> None:
            (found,) = model.inference([inputs[repeat % IMAGES]], do_postprocess=False)
            numbers.append(len(found))

        return run

    ways = {
        "mask r-cnn": _without_scores(model, infer(model)),
        "mask scoring": infer(model),
        **{name: infer(other) for name, other in others.items()},
        "to rle": lambda repeat: _our_records(others["fast"], inputs[repeat % IMAGES]),
        "detectron2 to rle": _without_scores(
            model, lambda repeat: _stock_records(model, inputs[repeat % IMAGES])
        ),
    }
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_fpn_backbone" and cfg.MODEL.RESNETS.DEPTH == 50:
        theirs = _torchvision(cfg).to(model.device)
        ways["torchvision"] = lambda repeat: _their_masks(theirs, inputs[repeat % IMAGES])
    if args.dtype != "fp32":
        in_fp32 = {"mask r-cnn in fp32": ways["mask r-cnn"]}
        own_format = {name: ways.pop(name) for name in ("fast", "to rle")}
        autocast = torch.autocast(model.device.type, dtype=TYPES[args.dtype])
        ways = {name: autocast(run) for name, run in ways.items()} | own_format | in_fp32
    with torch.no_grad():
        seconds = measure_in_turn(ways, model.device, args.repeats)
        weights = allocated_mib(model.device)
        memory = {name: peak - weights for name, peak in peak_mib(ways, model.device).items()}
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "dtype": args.dtype,
        "detections": statistics.mean(numbers),
        "seconds": seconds,
        "ratios": {
            name: ratio(seconds, way, other)
            for name, (way, other) in RATIOS.items()
            if other in ways
        },
        "peak_mib": memory or None,
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    medians = {name: statistics.median(each) for name, each in result["seconds"].items()}
    rows = [
        (name, f"{medians[way] * 1e3:.0f} ms", f"{medians[other] * 1e3:.0f} ms", text(found))
        for name, (way, other) in RATIOS.items()
        if (found := result["ratios"].get(name))
    ]
    headers = (f"{result['detections']:.0f} detections, {result['dtype']}", "time", "compared with")
    return tabulate(rows, (*headers, "ratio (quartiles)"), tablefmt="pipe")


def _model(cfg: CfgNode, like: GeneralizedRCNN | None = None) -> GeneralizedRCNN:
    """Builds a model with random weights, or those of another as far as it has them."""
    use_scoring_parts(cfg)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    keep_anchors(model)
    if like is not None:
        own = model.state_dict()
        same = {k: v for k, v in like.state_dict().items() if k in own and v.shape == own[k].shape}
        model.load_state_dict(same, strict=False)
    return model


def _fast(model: GeneralizedRCNN, dtype: torch.dtype) -> GeneralizedRCNN:
    model = copy.deepcopy(model)
    keep_anchors(model)
    speed_up(model, dtype)
    return model


def _inputs(cfg: CfgNode) -> list[dict]:
    mapper = DatasetMapper(cfg, False)
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TEST, filter_empty=False)
    return [mapper(record) for _, record in zip(range(IMAGES), dicts * IMAGES)]


def _without_scores(
    model: GeneralizedRCNN, run: Callable[[int], object]
) -> Callable[[int], object]:
    def run_without(repeat: int) -> None:
        with without_maskiou(model.roi_heads):
            run(repeat)

    return run_without


def _our_records(model: GeneralizedRCNN, image: dict) -> list[dict]:
    (found,) = with_encoded_masks(model)([image])
    classes = torch.arange(model.roi_heads.num_classes).numpy()
    detections = Detections.from_instances(found["instances"], image["image_id"], classes)
    return detections.results("segm", detections.mask_score)


def _stock_records(model: GeneralizedRCNN, image: dict) -> list[dict]:
    (found,) = model([image])
    return instances_to_coco_json(found["instances"].to("cpu"), image["image_id"])


def _their_masks(model: MaskRCNN, image: dict) -> list[dict]:
    """Runs torchvision's model on an image that is resized already, as ours gets it.

    These are the steps of its ``forward``, which would paste masks at the size of what it gets.
    """
    pixels = image["image"].to(next(model.parameters()).device) / 255
    batch, _ = model.transform([pixels])
    features = model.backbone(batch.tensors)
    proposals, _ = model.rpn(batch, features)
    found, _ = model.roi_heads(features, proposals, batch.image_sizes)
    size = image["height"], image["width"]
    return model.transform.postprocess(found, batch.image_sizes, [size])


def _torchvision(cfg: CfgNode) -> MaskRCNN:
    torch.manual_seed(0)
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1,
        min_size=cfg.INPUT.MIN_SIZE_TEST,
        max_size=cfg.INPUT.MAX_SIZE_TEST,
        box_score_thresh=0.0,
        box_detections_per_img=cfg.TEST.DETECTIONS_PER_IMAGE,
    ).eval()
