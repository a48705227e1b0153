"""How libraries order the outputs of the layers that have one, or several, for every class."""

from collections.abc import Sequence

from torch import Tensor

CLASSIFIER = "roi_heads.box_predictor.cls_score"
# Rows of weight and bias for one class, by Detectron2's name of the layer.
ROWS_PER_CLASS = {
    CLASSIFIER: 1,
    "roi_heads.box_predictor.bbox_pred": 4,
    "roi_heads.mask_head.predictor": 1,
    "roi_heads.mask_head.maskiou_head.maskiou": 1,
}


class BackgroundLast:
    """Detectron2's own order: the background is the classifier's last output, no other layer's."""

    def __init__(self, num_outputs: int):
        """
        Args:
            num_outputs: of the classifier.
        """
        self.num_classes = num_outputs - 1

    def source_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that a parameter has in the library.

        Args:
            name: Detectron2's name of it.
            shape: of it in Detectron2.
        """
        return shape

    def reorder(self, name: str, parameter: Tensor) -> Tensor:
        """A parameter of the library's order in Detectron2's.

        Args:
            name: Detectron2's name of it.
            parameter: of the shape :meth:`source_shape`.
        """
        return parameter


class BackgroundFirst(BackgroundLast):
    """The background is output 0 of every layer that has outputs for classes."""

    def __init__(self, num_outputs: int, foreground: Sequence[int] | None = None):
        """
        Args:
            num_outputs: of the classifier.
            foreground: the outputs that are classes, in Detectron2's order; all but 0 if not given.
        """
        self.num_outputs = num_outputs
        self.foreground = list(range(1, num_outputs) if foreground is None else foreground)
        self.num_classes = len(self.foreground)

    def source_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        rows = ROWS_PER_CLASS.get(_layer(name))
        return (rows * self.num_outputs, *shape[1:]) if rows else shape

    def reorder(self, name: str, parameter: Tensor) -> Tensor:
        layer = _layer(name)
        if layer not in ROWS_PER_CLASS:
            return parameter
        outputs = self.foreground + ([0] if layer == CLASSIFIER else [])
        return parameter.unflatten(0, (-1, ROWS_PER_CLASS[layer]))[outputs].flatten(0, 1)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]
