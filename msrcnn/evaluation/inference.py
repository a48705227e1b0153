"""Inference for evaluation: masks come out as RLE, and are never pasted at the image's size."""

from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..modeling.mask_confidence import mask_confidence
from .mask_encoding import encode_masks


def postprocess_to_rle(results: Instances, height: int, width: int) -> Instances:
    """Detectron2's ``detector_postprocess``, with masks as RLE.

    Args:
        results: of a model without postprocessing, perhaps with ``pred_masks``, probabilities of
            shape (N, 1, M, M). Might be changed in place.
        height, width: of the image, in pixels.

    Returns:
        Instances in the image's size; instead of ``pred_masks`` they have ``pred_masks_rle``, a
        list of compressed RLE as of the pasted masks, and ``mask_confidence`` of shape (N,).
    """
    if not results.has("pred_masks"):
        return detector_postprocess(results, height, width)
    results.roi_masks = results.pred_masks  # under another name they are left as they are
    results.remove("pred_masks")
    results = detector_postprocess(results, height, width)
    masks = results.roi_masks
    results.remove("roi_masks")
    results.mask_confidence = mask_confidence(masks)
    results.pred_masks_rle = encode_masks(masks, results.pred_boxes.tensor, (height, width))
    return results


class EncodedInference(nn.Module):
    """A Mask R-CNN that puts out masks as :func:`postprocess_to_rle` makes them."""

    def __init__(self, model: GeneralizedRCNN):
        super().__init__()
        self.model = model
        self.training = model.training  # what evaluation will restore

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
    """The model to evaluate with: encoding masks if it is a Mask R-CNN, else as it is.

    Args:
        model: perhaps wrapped for data-parallel use.
    """
    module = model.module if isinstance(model, DistributedDataParallel) else model
    # A subclass with an inference of its own may return something else.
    is_rcnn = getattr(type(module), "inference", None) is GeneralizedRCNN.inference
    return EncodedInference(module) if is_rcnn else model
