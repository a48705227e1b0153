"""Loading of weights: Detectron2's checkpointer, which also reads torchvision's ResNets."""

from detectron2.checkpoint import DetectionCheckpointer

from ..errors import UserError
from .torchvision_weights import convert_torchvision_resnet, is_torchvision_resnet


class MaskScoringCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, to which a torchvision ResNet is as good as its own.

    A file that is no checkpoint, or of which nothing fits the model, is a ``UserError``.
    """

    def _load_file(self, filename: str) -> dict:
        try:
            loaded = super()._load_file(filename)
            names = set(loaded["model"])
        except Exception as error:  # whatever a file of another kind makes of the unpickler
            raise UserError(f"'{filename}' is not a checkpoint: {error}") from error
        if not any(isinstance(name, str) for name in names):
            raise UserError(f"'{filename}' holds no named weights")
        if is_torchvision_resnet(loaded["model"]):
            # The heuristics put a backbone's names below the model's own prefix.
            return {
                "model": convert_torchvision_resnet(loaded["model"]),
                "__author__": "torchvision",
                "matching_heuristics": True,
            }
        return loaded

    def _load_model(self, checkpoint: dict):
        result = super()._load_model(checkpoint)
        own = set(self.model.state_dict())
        missed = {*result.missing_keys, *(name for name, *_ in result.incorrect_shapes)}
        if own and own <= missed:
            raise UserError("no weight of the checkpoint fits the model: is it of another kind?")
        return result
