"""Mask scoring: the extension with which a mask head also scores its masks (paper 3.1).

Every ROI-heads class of Detectron2 calls ``mask_head(features, instances)``: in training with the
foreground proposals, at test time with the detections that survived NMS. That call carries all
that mask scoring needs, so mask scoring is a mask head, and the stock ROI heads work unchanged.
"""

from collections.abc import Iterator, Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import nn

from .cropped_masks import with_cropped_masks
from .detection_context import detection_context
from .detection_samples import trains_on_detections, with_instance_masks
from .mask_confidence import mask_confidence
from .mask_scalars import mask_scalars
from .mask_score import box_scores, mask_probability, mask_score, rank_by_mask_score
from .maskiou_head import after_res5, build_maskiou_head
from .maskiou_input import select_class_masks
from .maskiou_loss import maskiou_loss
from .maskiou_samples import TARGETS


class MaskScoring:
    """A mixin that adds mask scoring to a subclass of ``BaseMaskRCNNHead``, the next base class.

    The parameters of the mask head keep their names, and those of the MaskIoU head are under
    ``maskiou_head``, so that any Mask R-CNN checkpoint loads unchanged. Without a MaskIoU head, the
    mask head works as before. :func:`~msrcnn.modeling.with_mask_scoring` creates such a class.
    """

    features_from_res5 = False  # whether ROI heads pass features that went through res5 (C4)

    @configurable
    def __init__(
        self,
        *args,
        maskiou_head: nn.Module | None = None,
        maskiou_loss_type: str = "l2",
        maskiou_loss_weight: float = 1.0,
        maskiou_target: str = "target_class",
        maskiou_thresh: float = 0.0,
        score_exponent: float = 1.0,
        confidence_exponent: float = 0.0,
        calibration: Sequence[float] = (),
        rank_by: str = "box_score",
        detections_from: int | None = None,
        **kwargs,
    ):
        """
        Args:
            *args: passed to the mask head, as are ``kwargs``.
            maskiou_head: called with RoI features, mask logits and classes; returns the MaskIoU
                of every class, of shape (N, num_classes). If it has a
                :class:`~.maskiou_head.ScalarNorm` ``scalar_norm``, it also gets the scalars of its
                columns.
            maskiou_loss_type: see :func:`maskiou_loss`.
            maskiou_loss_weight: weight of ``loss_maskiou``.
            maskiou_target: which outputs are trained, a key of ``TARGETS``.
            maskiou_thresh: only samples whose true MaskIoU is above it are trained on.
            score_exponent, confidence_exponent: exponents of :func:`mask_score`; the paper's are 1
                and 0.
            calibration: slope and offset of :func:`mask_probability`; ``()`` for none.
            rank_by: what ``scores`` of the output contains: ``"box_score"``, or ``"mask_score"``,
                with the box scores in ``box_scores``.
            detections_from: iteration from which the ROI heads train the MaskIoU head on
                detections, by :meth:`maskiou_inputs` and :meth:`detection_losses`; ``None``: never.
            **kwargs: passed to the mask head.
        """
        super().__init__(*args, **kwargs)
        self.maskiou_head = maskiou_head
        self.maskiou_loss_type = maskiou_loss_type
        self.maskiou_loss_weight = maskiou_loss_weight
        self.maskiou_samples = TARGETS[maskiou_target]()
        self.maskiou_thresh = maskiou_thresh
        self.score_exponent, self.confidence_exponent = score_exponent, confidence_exponent
        self.calibration = tuple(calibration)
        self.rank_by = rank_by
        self.detections_from = detections_from

    def forward(
        self,
        x: torch.Tensor,
        instances: list[Instances],
        maskiou_features: torch.Tensor | None = None,
    ):
        """
        Args:
            x: RoI features of all images, of shape (N, channels, H, W).
            instances: one per image, N in total. In training, foreground proposals with
                ``proposal_boxes``, ``gt_classes``, ``gt_masks`` and optionally ``gt_mask_area``.
                At test time, detections with ``pred_boxes``, ``pred_classes`` and optionally
                ``scores`` (with ``box_scores``, if ``scores`` are others), and ``given_masks`` of
                shape (n, 1, M, M) to score instead of the predicted masks.
            maskiou_features: RoI features for the MaskIoU head, if they are not ``x``.

        Returns:
            In training, the losses ``loss_mask`` and ``loss_maskiou``, the latter unless
            ``step_uses_detections``. At test time, the instances with ``pred_masks`` of shape
            (n, 1, M, M), ``pred_maskiou`` of shape (n,) and, if they have ``scores``,
            ``mask_scores`` of shape (n,), with a calibration also ``mask_probability``.
        """
        if self.maskiou_head is None:
            return super().forward(x, instances)
        features, mask_logits = self.maskiou_inputs(x, maskiou_features)
        if self.training:
            return self._losses(features, mask_logits, instances)
        mask_logits = _with_given_masks(mask_logits, instances)
        mask_rcnn_inference(mask_logits, instances)
        self._score(features, mask_logits, instances)
        return instances

    @property
    def step_uses_detections(self) -> bool:
        """Whether this training step trains the MaskIoU head on detections."""
        start = self.detections_from
        return start is not None and get_event_storage().iter >= start

    def maskiou_inputs(
        self, x: torch.Tensor, maskiou_features: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the MaskIoU head's feature and the mask logits; see :meth:`forward`."""
        if maskiou_features is None and self.maskiou_head.uses_mask_features:
            return self._mask_features(x)
        return x if maskiou_features is None else maskiou_features, self.layers(x)

    def _mask_features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the feature before ``deconv``, of shape (N, channels, H, W), and the logits."""
        kept = []
        hook = self.deconv.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            mask_logits = self.layers(x)
        finally:
            hook.remove()
        return kept[0], mask_logits

    def detection_losses(
        self,
        features: torch.Tensor,
        mask_logits: torch.Tensor,
        detections: list[Instances],
        targets: list[Instances],
    ) -> dict[str, torch.Tensor]:
        """Computes the loss of the MaskIoU head on detections.

        Args:
            features, mask_logits: from :meth:`maskiou_inputs`, without gradient.
            detections: detections of each image, from
                :class:`~.detection_samples.DetectionSampler`.
            targets: instances of each image.

        Returns:
            ``loss_maskiou``. Detections without an instance have a target of 0.
        """
        unmatched = torch.cat([d.gt_instance < 0 for d in detections])
        side = mask_logits.shape[-1]
        samples = [with_instance_masks(*image, side) for image in zip(detections, targets)]
        return {"loss_maskiou": self._maskiou_loss(features, mask_logits, samples, unmatched)}

    def _losses(self, features, mask_logits, instances: list[Instances]) -> dict:
        # An image without a foreground proposal may lack every ground-truth field but the class.
        proposals = [with_cropped_masks(i, mask_logits.shape[-1]) for i in instances if len(i) > 0]
        losses = {}
        if not self.step_uses_detections:
            losses["loss_maskiou"] = self._maskiou_loss(features, mask_logits, proposals)
        loss = mask_rcnn_loss(mask_logits, proposals, self.vis_period)
        return {"loss_mask": loss * self.loss_weight, **losses}

    def _maskiou_loss(
        self, features, mask_logits, proposals: list[Instances], unmatched=None
    ) -> torch.Tensor:
        none = mask_logits.new_zeros(0, 4)
        classes = torch.cat([none.long()[:, 0], *(p.gt_classes for p in proposals)])
        boxes = torch.cat([none, *(p.proposal_boxes.tensor for p in proposals)])
        maskiou = self._maskiou(features, mask_logits, classes, boxes)
        samples = self.maskiou_samples(maskiou, mask_logits.detach(), proposals)
        # The host waits for the device only here.
        values = torch.stack([samples.prediction.detach().float(), samples.target]).cpu()
        trained = values[1] > (-1.0 if self.maskiou_samples.counts_zero else self.maskiou_thresh)
        if unmatched is not None:  # the threshold is for samples with an instance
            trained |= unmatched
        _log_maskiou(*values[:, trained])
        rows = trained.nonzero()[:, 0].to(mask_logits.device)
        loss = maskiou_loss(
            samples.prediction[rows],
            samples.target[rows],
            loss_type=self.maskiou_loss_type,
            threshold=None,
            area=samples.area[rows],
            num_masks=samples.num_masks,
        )
        return loss * self.maskiou_loss_weight

    def _score(self, features, mask_logits, instances: list[Instances]) -> None:
        classes = torch.cat([i.pred_classes for i in instances])
        boxes = torch.cat([i.pred_boxes.tensor for i in instances])
        maskiou = self._maskiou(features, mask_logits, classes, boxes, instances)
        maskiou = maskiou.gather(1, classes[:, None])[:, 0].float().clamp(0, 1)
        for detections, pred in zip(instances, maskiou.split([len(i) for i in instances])):
            detections.pred_maskiou = pred
            if detections.has("scores"):
                detections.mask_scores = mask_score(
                    box_scores(detections),
                    pred,
                    mask_confidence(detections.pred_masks) if self.confidence_exponent else None,
                    score_exponent=self.score_exponent,
                    confidence_exponent=self.confidence_exponent,
                )
                if self.calibration:
                    detections.mask_probability = mask_probability(
                        detections.mask_scores, *self.calibration
                    )
                if self.rank_by == "mask_score":
                    rank_by_mask_score(detections)

    def _maskiou(
        self, features, mask_logits, classes, boxes, detections: Sequence[Instances] = ()
    ) -> torch.Tensor:
        """Predicts the MaskIoU of every class, of shape (N, num_classes).

        Only detections have a context; a head that takes it cannot be trained on anything else.
        """
        norm = getattr(self.maskiou_head, "scalar_norm", None)
        if norm is None:
            return self.maskiou_head(features, mask_logits, classes)
        scalars = []
        if norm.takes_mask_scalars:
            scalars.append(mask_scalars(select_class_masks(mask_logits, classes), boxes))
        if norm.takes_context:
            scalars += [torch.cat([detection_context(each) for each in detections])]
        return self.maskiou_head(features, mask_logits, classes, torch.cat(scalars, dim=1))

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict:
        ret = super().from_config(cfg, input_shape)
        if not cfg.MODEL.MASKIOU_ON:
            return ret
        head = cfg.MODEL.ROI_MASKIOU_HEAD
        feature = after_res5(input_shape) if cls.features_from_res5 else input_shape
        ret.update(
            maskiou_head=build_maskiou_head(cfg, feature),
            maskiou_loss_type=head.LOSS_TYPE,
            maskiou_loss_weight=head.LOSS_WEIGHT,
            maskiou_target=head.TARGET,
            maskiou_thresh=head.MASKIOU_THRESH,
            score_exponent=head.SCORE_EXPONENT,
            confidence_exponent=head.CONFIDENCE_EXPONENT,
            calibration=head.CALIBRATION,
            rank_by=cfg.MODEL.ROI_MASK_HEAD.RANK_BY,
            detections_from=head.DETECTIONS_FROM if trains_on_detections(cfg) else None,
        )
        return ret


class SequentialMaskScoring(MaskScoring):
    """:class:`MaskScoring` for mask heads that are an ``nn.Sequential`` and run all children."""

    def __iter__(self) -> Iterator[nn.Module]:
        """Yields the mask layers, without the MaskIoU head."""
        return (layer for layer in super().__iter__() if layer is not self.maskiou_head)


def _with_given_masks(mask_logits: torch.Tensor, instances: list[Instances]) -> torch.Tensor:
    """Returns the logits, with ``given_masks`` in place of the masks of the instances' classes."""
    if not instances or not all(i.has("given_masks") for i in instances):
        return mask_logits
    given = torch.cat([i.given_masks for i in instances])[:, 0].logit(eps=1e-6)
    classes = torch.cat([i.pred_classes for i in instances])
    if mask_logits.shape[1] == 1:
        classes = torch.zeros_like(classes)
    mask_logits = mask_logits.clone()
    rows = torch.arange(len(classes), device=classes.device)
    mask_logits[rows, classes] = given.to(mask_logits.dtype)
    return mask_logits


def _log_maskiou(prediction: torch.Tensor, target: torch.Tensor) -> None:
    """Writes means over the trained samples, tensors on the CPU, to the event storage."""
    if len(target) == 0:
        return
    storage = get_event_storage()
    storage.put_scalar("maskiou/target", target.mean())
    storage.put_scalar("maskiou/prediction", prediction.mean())
    storage.put_scalar("maskiou/abs_error", (prediction - target).abs().mean())
