"""One pass of a frozen detector over its training images, which collects samples."""

import math
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import build_detection_test_loader
from detectron2.modeling import GeneralizedRCNN
from pycocotools.coco import COCO
from torch import nn
from torch.utils.data import SequentialSampler
from tqdm import tqdm

from ..evaluation import Detections, postprocess_to_rle
from ..evaluation.category_ids import ABSENT, category_ids
from ..evaluation.mask_quality import duplicates, instances_by_class, true_maskiou
from ..modeling import MaskScoring
from ..modeling.detection_context import detection_context
from ..modeling.mask_scalars import mask_scalars
from ..modeling.maskiou_input import INPUT_DESIGNS, select_class_masks
from .cache_budget import CacheBudget, Selection
from .progress_bar import progress_bar
from .sample_cache import SampleCache, Samples
from .view_mapper import ViewMapper, mirror

PARTS = 200  # at most, because the number of open files is limited
MIN_IMAGES = 64  # of a part


def collect_samples(
    cfg,
    model: GeneralizedRCNN,
    ground_truth: COCO,
    images: list[dict],
    cache: SampleCache,
    *,
    max_bytes: int,
    rank: int = 0,
    world_size: int = 1,
) -> None:
    """Runs the detector on images, and writes a sample for each detection.

    Detections are those of the evaluation without test-time augmentation: the same size of images,
    the same threshold, NMS and limit. With ``SOLVER.FIT_VIEWS`` above 1, the detector also runs on
    each image mirrored or at a size of the training. An interrupted pass resumes with the first
    part that is missing.

    Args:
        cfg: config of the model.
        model: with a MaskIoU head, whose weights do not matter; in evaluation mode.
        ground_truth: annotations of the images.
        images: Detectron2's dataset dicts.
        cache: receives the samples.
        max_bytes: bounds the size of the cache, see :class:`~.cache_budget.CacheBudget`.
        rank, world_size: this process runs every ``world_size``-th part, from ``rank``.
    """
    parts = sample_parts(cfg, images)
    mine = [number for number in range(rank, len(parts), world_size) if not cache.has_part(number)]
    total = sum(len(parts[number][1]) for number in mine)
    budget = CacheBudget(
        max_bytes, len(images), cfg.SOLVER.FIT_VIEWS, cfg.TEST.DETECTIONS_PER_IMAGE
    )
    collector = _Collector(cfg, model, ground_truth, budget)
    shown = rank == 0 and total > 0
    with progress_bar(total=total, desc="Detections", unit="image", disable=not shown) as bar:
        for number in mine:
            cache.write_part(number, *collector(*parts[number], bar))


def sample_parts(cfg, images: list[dict]) -> list[tuple[int, list[dict]]]:
    """Divides the images into the parts of a cache: the view and the images of each."""
    views = range(cfg.SOLVER.FIT_VIEWS)
    size = max(math.ceil(len(images) * len(views) / PARTS), MIN_IMAGES)
    starts = range(0, len(images), size)
    return [(view, images[start : start + size]) for view in views for start in starts]


class _Collector:
    """Detects in images and returns the samples of the detections."""

    def __init__(self, cfg, model: GeneralizedRCNN, ground_truth: COCO, budget: CacheBudget):
        self._cfg, self._model, self._ground_truth = cfg, model, ground_truth
        self._budget = budget
        self._category_ids = category_ids(
            ground_truth, cfg.DATASETS.TRAIN[0], cfg.DATASETS.CLASS_NAMES
        )
        self._instances = instances_by_class(ground_truth)
        self._num_classes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
        self._all_masks = INPUT_DESIGNS[cfg.MODEL.ROI_MASKIOU_HEAD.INPUT].needs_all_masks

    @torch.no_grad()
    def __call__(
        self, view: int, images: list[dict], bar: tqdm
    ) -> tuple[Samples, Detections, Selection]:
        mapper = ViewMapper(self._cfg, view)
        loader = build_detection_test_loader(
            images,
            mapper=mapper,
            sampler=SequentialSampler(images),  # the default one would share them out again
            num_workers=self._cfg.DATALOADER.NUM_WORKERS,
        )
        found: list[_OfImage] = []
        with _Recorder(self._model.roi_heads.mask_head, self._num_classes) as recorder:
            for (image,) in loader:
                found.append(self._of_image(image, view, mapper, recorder))
                bar.update()
        detections = Detections.stack([each.detections for each in found])
        columns = [each.columns for each in found]
        joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
        scale = np.repeat([each.area_scale for each in found], [len(c["classes"]) for c in columns])
        true = true_maskiou(self._ground_truth, detections)
        samples = Samples(
            **joined,
            target=true.matched.astype(np.float32),
            area=(true.area * scale.astype(np.float32)).astype(np.float32),
            view=np.full(len(detections), view, dtype=np.int64),
            usable=~np.isnan(true.matched_or_zero),
        )
        left_out = sum(each.left_out for each in found)
        whole = [each.image_id for each in found if each.is_whole]
        return samples, detections, Selection(left_out, whole)

    def _of_image(
        self, image: dict, view: int, mapper: ViewMapper, recorder: "_Recorder"
    ) -> "_OfImage":
        """Detects in an image, and keeps as many detections as the budget allows."""
        image_id, height, width = image["image_id"], image["height"], image["width"]
        (instances,) = self._model.inference([image], do_postprocess=False)
        features, mask_logits, classes = recorder.inputs
        boxes = instances.pred_boxes.tensor.clone()
        area_scale = math.prod(instances.image_size) / (height * width)
        class_masks = select_class_masks(mask_logits, classes)
        scalars = torch.cat([mask_scalars(class_masks, boxes), detection_context(instances)], dim=1)
        instances.row = torch.arange(len(instances), device=boxes.device)
        if mapper.mirrors:
            mirror(instances)
        instances = postprocess_to_rle(instances, height, width)
        detections = Detections.from_instances(instances, image_id, self._category_ids)
        known = self._category_ids[instances.pred_classes.cpu().numpy()] != ABSENT
        rows = instances.row.cpu().numpy()[known]  # postprocessing drops empty boxes
        duplicate = duplicates(self._instances, detections)
        stored_masks = mask_logits if self._all_masks else class_masks[:, None]
        size = 2 * (features.shape[1:].numel() + stored_masks.shape[1:].numel())
        kept = self._budget.draw(len(rows), image_id, view, size)
        kept_rows = torch.from_numpy(rows[kept]).to(boxes.device)
        return _OfImage(
            image_id,
            detections.take(kept, detections.images),
            columns={
                "features": _half(features[kept_rows]),
                "mask_logits": _half(stored_masks[kept_rows]),
                "scalars": scalars[kept_rows].cpu().numpy(),
                "classes": classes[kept_rows].cpu().numpy(),
                "duplicate": duplicate[kept],
            },
            area_scale=area_scale,
            left_out=len(rows) - len(kept),
            is_whole=self._budget.is_whole(image_id, view, size),
        )


class _OfImage(NamedTuple):
    """The detections of an image that are kept.

    Attributes:
        image_id: id of the image.
        detections: N detections.
        columns: arrays of N rows, by the name of their column in ``Samples``.
        area_scale: the area of the network input over that of the image.
        left_out: number of detections that the budget has no room for.
        is_whole: whether the budget keeps all detections of this image.
    """

    image_id: int
    detections: Detections
    columns: dict[str, np.ndarray]
    area_scale: float
    left_out: int
    is_whole: bool


class _Recorder(nn.Module):
    """Takes the place of a MaskIoU head within a ``with`` block, and keeps what it is given.

    Attributes:
        inputs: features, mask logits and classes of the last image.
    """

    def __init__(self, mask_head: MaskScoring, num_classes: int):
        super().__init__()
        self._num_classes = num_classes
        self.uses_mask_features = mask_head.maskiou_head.uses_mask_features
        self._kept = mask_head, mask_head.maskiou_head  # in a tuple, so not as submodules

    def forward(self, features, mask_logits, classes, scalars=None) -> torch.Tensor:
        """Returns a MaskIoU of 0 for every class, which nothing uses, without allocating it."""
        self.inputs = features, mask_logits, classes
        return features.new_zeros(1, 1).expand(len(features), self._num_classes)

    def __enter__(self) -> "_Recorder":
        mask_head, _ = self._kept
        mask_head.maskiou_head = self
        return self

    def __exit__(self, *error) -> None:
        mask_head, head = self._kept
        mask_head.maskiou_head = head


def _half(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to("cpu", torch.float16).numpy()
