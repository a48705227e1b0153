"""Loading of weights: Detectron2's checkpointer, which also reads torchvision's ResNets."""

from detectron2.checkpoint import DetectionCheckpointer

from .torchvision_weights import convert_torchvision_resnet, is_torchvision_resnet


class MaskScoringCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, to which a torchvision ResNet is as good as its own."""

    def _load_file(self, filename: str) -> dict:
        loaded = super()._load_file(filename)
        if is_torchvision_resnet(loaded["model"]):
            # The heuristics put a backbone's names below the model's own prefix.
            return {
                "model": convert_torchvision_resnet(loaded["model"]),
                "__author__": "torchvision",
                "matching_heuristics": True,
            }
        return loaded
