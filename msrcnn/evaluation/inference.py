"""Inference that encodes masks as RLE without pasting them into images."""

from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.mask_confidence import mask_confidence
from ..modeling.meta_architecture import has_rcnn_inference
from .mask_encoding import encode_masks


def postprocess_to_rle(results: Instances, height: int, width: int) -> Instances:
    """Rescales detections to the size of the image, with masks as RLE.

    This replaces Detectron2's ``detector_postprocess``. The RLE is the same as that of the pasted
    masks.

    Args:
        results: output of a model without postprocessing. ``pred_masks``, if present, contains
            mask probabilities of shape (N, 1, M, M). May be modified in place.
        height, width: size of the image in pixels.

    Returns:
        Instances at the size of the image. ``pred_masks`` is replaced by ``pred_masks_rle``, a
        list of N compressed RLE, and by ``mask_confidence``, a tensor of shape (N,).
    """
    results = rescale_boxes(results, height, width)
    if not results.has("roi_masks"):
        return results
    masks = results.roi_masks
    results.remove("roi_masks")
    results.mask_confidence = mask_confidence(masks)
    results.pred_masks_rle = encode_masks(masks, results.pred_boxes.tensor, (height, width))
    return results


def rescale_boxes(results: Instances, height: int, width: int) -> Instances:
    """Like Detectron2's ``detector_postprocess``, but does not paste the masks.

    Args:
        results, height, width: see :func:`postprocess_to_rle`.

    Returns:
        Instances at the size of the image; ``pred_masks`` is renamed to ``roi_masks``.
    """
    if results.has("pred_masks"):
        results.roi_masks = results.pred_masks  # detector_postprocess pastes pred_masks only
        results.remove("pred_masks")
    return detector_postprocess(results, height, width)


class EncodedInference(nn.Module):
    """Runs inference of a Mask R-CNN with :func:`postprocess_to_rle` as postprocessing."""

    def __init__(self, model: GeneralizedRCNN):
        super().__init__()
        self.model = model
        self.training = model.training  # inference_on_dataset restores this mode afterwards

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        results = self.model.inference(batched_inputs, do_postprocess=False)
        return [
            {"instances": postprocess_to_rle(instances, *_image_size(image, instances))}
            for image, instances in zip(batched_inputs, results)
        ]


def _image_size(image: dict, instances: Instances) -> tuple[int, int]:
    height, width = instances.image_size
    return image.get("height", height), image.get("width", width)


def with_encoded_masks(model: nn.Module) -> nn.Module:
    """Wraps a model so that ``inference_on_dataset`` gets masks as RLE.

    Args:
        model: the model, possibly wrapped in ``DistributedDataParallel``.

    Returns:
        An :class:`EncodedInference`, or the model itself if its class is not a
        ``GeneralizedRCNN`` or overrides ``inference``.
    """
    module = model.module if isinstance(model, DistributedDataParallel) else model
    return EncodedInference(module) if has_rcnn_inference(type(module)) else model
