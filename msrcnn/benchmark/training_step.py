"""Time and memory of a training step with and without mask scoring."""

import argparse
import itertools
import statistics
from collections.abc import Callable

import torch
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from ..engine import Trainer, prepare_config
from ..engine.device import on_available_device
from ..engine.gradient_step import autocast
from ..modeling.maskiou_samples import TARGETS
from ..modeling.test_time_augmentation import without_maskiou
from .benchmark_config import add_config
from .timing import measure_in_turn, peak_mib, ratio, text
from .untrained_rpn import keep_anchors

BATCHES = 4  # of images, repeated in turn
FOREGROUND = 128  # proposals per image
# The step is trained on detections of any score, so that there are as many as can be.
SETTINGS = (
    *("MODEL.MASKIOU_ON", True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES", "detections"),
    *("MODEL.ROI_MASKIOU_HEAD.DETECTIONS_FROM", 0, "SOLVER.FIT_SCORES", False),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.WEIGHTS", "", "SEED", 0),
)
STOCK, PROPOSALS, DETECTIONS = "mask r-cnn", "proposals", "detections"
OTHER_TARGETS = tuple(name for name in TARGETS if name != "target_class")
# Ways that are compared: the name of the ratio, the way, and the one that it is compared with.
RATIOS = (
    ("mask scoring, trained on proposals", PROPOSALS, STOCK),
    ("mask scoring, trained on detections", DETECTIONS, STOCK),
    ("detections instead of proposals", DETECTIONS, PROPOSALS),
    *((f"target {name} instead of target_class", name, PROPOSALS) for name in OTHER_TARGETS),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`measure`."""
    add_config(parser)
    parser.add_argument(
        "--foreground",
        type=int,
        action="append",  # several words at once would include the config keys
        help="foreground proposals per image to measure with, beside those of the untrained RPN; "
        f"can be given several times (default: {FOREGROUND})",
    )
    parser.add_argument(
        "--detections",
        type=int,
        help="detections per image, all matched (default: TEST.DETECTIONS_PER_IMAGE)",
    )
    parser.add_argument("--repeats", type=int, default=10, help="steps to measure of each kind")


def measure(args: argparse.Namespace) -> dict:
    """Measures training steps with an untrained model on images of ``DATASETS.TRAIN``.

    Steps of all kinds alternate, with the same images and random numbers, and consist of forward
    pass, backward pass and SGD with a learning rate of 0. ``mask r-cnn`` is the model without its
    MaskIoU head; the others train the head on proposals, on detections, or on proposals with
    another target. With detections, box inference runs, but its detections are replaced by
    instances: those of an untrained model match none.

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
    batches = list(itertools.islice(iter(Trainer.build_train_loader(cfg)), BATCHES))
    steps = _Steps(model, batches, autocast(cfg))
    return {
        "config": args.config_file,
        "overrides": args.opts,
        "images": cfg.SOLVER.IMS_PER_BATCH,
        "loads": [
            _measure_load(steps, number, detections, args.repeats)
            for number in args.foreground or [FOREGROUND]
        ],
    }


def table(result: dict) -> str:
    """Formats a result of :func:`measure`."""
    rows = []
    for load in result["loads"]:
        medians = {way: statistics.median(each) for way, each in load["seconds"].items()}
        for name, way, other in RATIOS:
            memory = load["memory_mib"]
            rows.append(
                (
                    f"{load['foreground']:.0f}",
                    name,
                    *(f"{medians[key]:.3f} s" for key in (way, other)),
                    text(load["ratios"][name]),
                    f"{memory[way] / memory[other]:.3f}",
                )
            )
    headers = ("foreground proposals", "", "with", "without", "ratio (quartiles)", "memory")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def _measure_load(steps: "_Steps", foreground: int, detections: int, repeats: int) -> dict:
    """Measures steps of each kind.

    Returns:
        ``proposals``, the mean number per image that the box inference ran on; ``foreground`` and
        ``detections``, the mean numbers per image that a step trained on; ``seconds`` of each kind
        and repeat; ``ratios``, see ``RATIOS``; ``memory_mib`` of each kind: on a GPU the peak,
        without what the step does not need, on the CPU see :meth:`_Steps.memory_mib`.
    """
    boxes = _Boxes(steps.model.roi_heads, foreground, detections)
    device = steps.model.device
    steps.forget_numbers()
    with boxes:
        ways = steps.ways()
        seconds = measure_in_turn(ways, device, repeats)
        memory = peak_mib(ways, device)
        if memory:
            memory[STOCK] -= steps.unused_by_stock_mib()
        else:
            memory = {name: steps.memory_mib(run) for name, run in ways.items()}
    return {
        "proposals": statistics.mean(boxes.proposals),
        "foreground": statistics.mean(steps.numbers["roi_head/num_fg_samples"]),
        "detections": statistics.mean(steps.numbers["maskiou/num_matched"]),
        "seconds": seconds,
        "ratios": {name: ratio(seconds, way, other) for name, way, other in RATIOS},
        "memory_mib": memory,
    }


class _Steps:
    """Training steps of one model, with and without mask scoring."""

    def __init__(self, model: GeneralizedRCNN, batches: list[list[dict]], autocast: torch.autocast):
        """
        Args:
            model: in training mode; its MaskIoU head can be trained on detections.
            batches: taken in turn.
            autocast: the number format of the forward pass.
        """
        self.model = model
        self.forget_numbers()
        self._batches = batches
        model.roi_heads.mask_head.detections_from = None  # except in steps on detections
        self._optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
        self._autocast = autocast

    def forget_numbers(self) -> None:
        """Empties ``numbers``, the scalars of steps on detections by name."""
        self.numbers: dict[str, list[float]] = {
            "roi_head/num_fg_samples": [],
            "maskiou/num_matched": [],
        }

    def ways(self) -> dict[str, Callable[[int], object]]:
        """Returns the steps by name, each called with the number of the repeat."""

        def stock(repeat: int) -> None:
            with without_maskiou(self.model.roi_heads):
                self._step(repeat)

        return {
            STOCK: stock,
            PROPOSALS: self._step,
            DETECTIONS: self._on_detections,
            **{name: self._with_target(name) for name in OTHER_TARGETS},
        }

    def memory_mib(self, run: Callable[[int], object]) -> float:
        """Returns what a step keeps: tensors saved for the backward pass, each memory once, and
        parameters with gradient and momentum."""
        parameters = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        saved: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run(0)
        kept = sum(3 * p.nbytes for p in self.model.parameters() if p.grad is not None)
        return (sum(saved.values()) + kept) / 2**20

    def unused_by_stock_mib(self) -> float:
        """Returns the memory of the MaskIoU head's parameters and momentum.

        They stay on the GPU while the step without mask scoring runs, which does not need them.
        """
        head = self.model.roi_heads.mask_head.maskiou_head
        return sum(2 * p.nbytes for p in head.parameters()) / 2**20

    def _on_detections(self, repeat: int) -> None:
        self.model.roi_heads.mask_head.detections_from = 0
        try:
            storage = self._step(repeat)
        finally:
            self.model.roi_heads.mask_head.detections_from = None
        for name, values in self.numbers.items():
            values.append(storage.latest()[name][0])

    def _with_target(self, name: str) -> Callable[[int], object]:
        heads = self.model.roi_heads

        def run(repeat: int) -> None:
            before = heads.mask_head.maskiou_samples, heads.share_image_instances
            heads.mask_head.maskiou_samples = TARGETS[name]()
            heads.share_image_instances = TARGETS[name].needs_image_instances
            try:
                self._step(repeat)
            finally:
                heads.mask_head.maskiou_samples, heads.share_image_instances = before

        return run

    def _step(self, repeat: int) -> EventStorage:
        torch.manual_seed(repeat + 1000)  # warm-up has negative numbers
        self._optimizer.zero_grad()
        with EventStorage() as storage:
            with self._autocast:
                loss = sum(self.model(self._batches[repeat % len(self._batches)]).values())
            loss.backward()
        self._optimizer.step()
        return storage


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
