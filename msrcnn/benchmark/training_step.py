"""Time of a training step with the MaskIoU head trained on proposals or on detections."""

import argparse
import itertools
import statistics

import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from tqdm import tqdm

from ..engine import Trainer, prepare_config
from ..engine.device import on_available_device
from . import clock

DEFAULT_CONFIG = "COCO-InstanceSegmentation/ms_rcnn_R_50_FPN_1x.yaml"
BATCHES = 4  # of images, repeated in turn
WARM_UP = 2  # steps of each kind that are not measured
# The step is trained on detections of any score, so that there are as many as can be.
SETTINGS = (
    *("MODEL.MASKIOU_ON", True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections"),
    *("MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM", 0, "SOLVER.FIT_SCORES", False),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.WEIGHTS", "", "SEED", 0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    parser.add_argument(
        "--config-file", default=DEFAULT_CONFIG, metavar="F", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--foreground",
        type=int,
        nargs="+",
        default=[0, 128],
        help="foreground proposals per image to measure with, beside those of the untrained RPN",
    )
    parser.add_argument(
        "--detections",
        type=int,
        help="detections per image, all matched (default: TEST.DETECTIONS_PER_IMAGE)",
    )
    parser.add_argument("--repeats", type=int, default=10, help="pairs of steps to measure")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="override config keys")


def measure(args: argparse.Namespace) -> dict:
    """Measures training steps with an untrained model on images of ``DATASETS.TRAIN``.

    Steps on proposals and on detections alternate, with the same images and random numbers, and
    consist of forward pass, backward pass and SGD with a learning rate of 0. Box inference runs,
    but its detections are replaced by instances: those of an untrained model match none.

    Returns:
        ``config``, ``overrides``, ``images`` per step, and ``loads``, one for each number of
        foreground proposals, see :func:`_measure_load`.

    Raises:
        UserError: for a mistake in the config or the command line.
    """
    cfg = on_available_device(
        prepare_config(args.config_file, [*args.opts, *SETTINGS], splits=("TRAIN",))
    )
    detections = cfg.TEST.DETECTIONS_PER_IMAGE if args.detections is None else args.detections
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg).train()
    keep_anchors(model)
    step = _Step(model, amp=cfg.SOLVER.AMP.ENABLED)
    batches = list(itertools.islice(iter(Trainer.build_train_loader(cfg)), BATCHES))
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "images": cfg.SOLVER.IMS_PER_BATCH,
        "loads": [
            _measure_load(step, batches, number, detections, args.repeats)
            for number in args.foreground
        ],
    }


def keep_anchors(model: GeneralizedRCNN) -> None:
    """Lets an untrained RPN propose its anchors: shifted at random, few would be in the image."""
    torch.nn.init.zeros_(model.proposal_generator.rpn_head.anchor_deltas.weight)


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = [
        (
            f"{load['proposals']:.0f}",
            f"{load['foreground']:.0f}",
            f"{load['detections']:.0f}",
            f"{statistics.median(load['proposals_seconds']):.3f} s",
            f"{statistics.median(load['detections_seconds']):.3f} s",
            f"{load['ratio']:.2f}",
        )
        for load in result["loads"]
    ]
    headers = (
        *("proposals per image", "foreground proposals", "detections"),
        *("step on proposals", "step on detections", "ratio"),
    )
    return tabulate(rows, headers, tablefmt="pipe", colalign=("right",) * len(headers))


def _measure_load(
    step: "_Step", batches: list[list[dict]], foreground: int, detections: int, repeats: int
) -> dict:
    """Measures pairs of steps.

    Returns:
        ``proposals``, the mean number per image that the box inference ran on; ``foreground`` and
        ``detections``, the mean numbers per image that a step trained on; ``proposals_seconds`` and
        ``detections_seconds`` of each pair; ``ratio``, the median of their ratios.
    """
    seconds: dict[bool, list[float]] = {False: [], True: []}
    numbers: dict[str, list[float]] = {"roi_head/num_fg_samples": [], "maskiou/num_matched": []}
    boxes = _Boxes(step.model.roi_heads, foreground, detections)
    with boxes, EventStorage() as storage:
        for repeat in tqdm(range(-WARM_UP, repeats), unit="pair", leave=False):
            # Each kind comes first in half of the pairs.
            for on_detections in (False, True) if repeat % 2 else (True, False):
                taken = step(batches[repeat % len(batches)], on_detections, seed=repeat + WARM_UP)
                if repeat >= 0:
                    seconds[on_detections].append(taken)
            for name, values in numbers.items():
                values.append(storage.latest()[name][0])
    ratios = [b / a for a, b in zip(seconds[False], seconds[True])]
    return {
        "proposals": statistics.mean(boxes.proposals),
        "foreground": statistics.mean(numbers["roi_head/num_fg_samples"]),
        "detections": statistics.mean(numbers["maskiou/num_matched"]),
        "proposals_seconds": seconds[False],
        "detections_seconds": seconds[True],
        "ratio": statistics.median(ratios),
    }


class _Step:
    """A training step of a model, which can train the MaskIoU head on either kind of samples."""

    def __init__(self, model: GeneralizedRCNN, *, amp: bool):
        self.model = model
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        self._autocast = torch.autocast(model.device.type, enabled=amp)

    def __call__(self, batch: list[dict], on_detections: bool, seed: int) -> float:
        """Returns the seconds that the step took; on the CPU, those of the process alone."""
        self.model.roi_heads.mask_head.detections_from = 0 if on_detections else None
        torch.manual_seed(seed)
        start = clock.seconds(self.model.device)
        with self._autocast:
            loss = sum(self.model(batch).values())
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return clock.seconds(self.model.device) - start


class _Boxes:
    """Gives ROI heads numbers of foreground proposals and detections that a trained model has."""

    def __init__(self, roi_heads: torch.nn.Module, foreground: int, detections: int):
        """
        Args:
            roi_heads: changed within a ``with`` block.
            foreground: proposals per image to add, each an instance.
            detections: detections per image, each an instance.
        """
        self._roi_heads, self._foreground, self._detections = roi_heads, foreground, detections
        self._targets: list[Instances] = []
        self.proposals: list[int] = []  # of each image that the box inference ran on

    def __enter__(self) -> "_Boxes":
        heads = self._roi_heads
        self._sample, self._detect = heads.label_and_sample_proposals, heads._detect
        heads.label_and_sample_proposals, heads._detect = self._with_foreground, self._instances
        return self

    def __exit__(self, *error) -> None:
        del self._roi_heads.label_and_sample_proposals, self._roi_heads._detect

    def _with_foreground(self, proposals: list[Instances], targets: list[Instances]):
        self._targets = targets
        added = []
        for of_image, instances in zip(proposals, targets):
            rows = self._rows(instances, self._foreground)
            more = Instances(of_image.image_size)
            more.proposal_boxes = Boxes(instances.gt_boxes.tensor[rows])
            more.objectness_logits = of_image.objectness_logits.new_zeros(len(rows))
            added.append(Instances.cat([of_image, more]))
        return self._sample(added, targets)

    def _instances(self, features, proposals: list[Instances]) -> list[Instances]:
        self._detect(features, proposals)
        self.proposals += map(len, proposals)
        found = []
        for instances in self._targets:
            rows = self._rows(instances, self._detections)
            detections = Instances(instances.image_size)
            detections.pred_boxes = Boxes(instances.gt_boxes.tensor[rows])
            detections.pred_classes = instances.gt_classes[rows]
            found.append(detections)
        return found

    @staticmethod
    def _rows(instances: Instances, number: int) -> torch.Tensor:
        return torch.arange(number, device=instances.gt_classes.device) % max(len(instances), 1)
