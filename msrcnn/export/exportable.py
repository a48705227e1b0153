"""Which models can be exported with their computation."""

from detectron2.config import CfgNode
from torch import nn

from ..errors import UserError
from ..modeling.deform_resnet import DeformConv2d
from ..modeling.meta_architecture import check_rcnn


def check_exportable(cfg: CfgNode, model_format: str) -> None:
    """Rejects configs whose model cannot be traced.

    Raises:
        UserError: naming the key.
    """
    start = f"--format {model_format} cannot export"
    check_rcnn(cfg, f"--format {model_format}")
    if cfg.MODEL.ROI_HEADS.NMS_TYPE != "nms":
        raise UserError(
            f"{start} Soft-NMS (MODEL.ROI_HEADS.NMS_TYPE '{cfg.MODEL.ROI_HEADS.NMS_TYPE}'): the "
            "number of its steps depends on the image. Set it to 'nms' in the config"
        )
    if cfg.TEST.AUG.ENABLED:
        raise UserError(
            f"{start} test-time augmentation, which runs the model several times: set "
            "TEST.AUG.ENABLED False in the config"
        )
    if cfg.MODEL.KEYPOINT_ON:
        raise UserError(f"{start} keypoints: set MODEL.KEYPOINT_ON False in the config")


def check_layers(model: nn.Module, model_format: str) -> None:
    """Rejects models with layers that a format has no operator for.

    Raises:
        UserError: naming the layer.
    """
    if model_format != "onnx":
        return
    for name, layer in model.named_modules():
        if isinstance(layer, DeformConv2d):
            raise UserError(
                f"--format onnx cannot export the deformable convolution '{name}': PyTorch has no "
                "ONNX operator for it. Use --format torchscript"
            )
