"""Settings of an evaluation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation; the defaults are those of the config.

    Attributes:
        max_dets: maximum number of detections per image, see
            :meth:`~.coco_metrics.Engine.average_precision`.
        engine: a key of ``ENGINES``.
        bootstrap: number of bootstrap samples for confidence intervals; 0 skips them.
        confidence_exponent: exponent of mask confidence in the ranking ``segm_mask_confidence``.
    """

    max_dets: int = 100
    engine: str = "hotcoco"
    bootstrap: int = 1000
    confidence_exponent: float = 1.0


DEFAULT_SETTINGS = EvaluationSettings()
