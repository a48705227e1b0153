"""The settings of a model that explain its results, for the files of an evaluation."""

from detectron2.config import CfgNode

from ..config_by_key import value_of

# Without those that a result has in other places: weights, test data, seed, limit of detections.
KEYS = (
    "DATASETS.TRAIN",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "MODEL.META_ARCHITECTURE",
    "MODEL.BACKBONE.NAME",
    "MODEL.RESNETS.DEPTH",
    "MODEL.ROI_HEADS.NAME",
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.NMS_TYPE",
    "MODEL.MASKIOU_ON",
)
MASKIOU_KEYS = tuple(
    f"MODEL.ROI_MASKIOU_HEAD.{key}"
    for key in (
        *("NAME", "INPUT", "TARGET", "LOSS_TYPE", "SAMPLES", "FALSE_POSITIVES"),
        *("INPUT_SCALARS", "INPUT_CONTEXT", "SCORE_EXPONENT", "CONFIDENCE_EXPONENT"),
    )
)
SOLVER_KEYS = tuple(
    f"SOLVER.{key}"
    for key in ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "OPTIMIZER", "FIT_SCORES")
)


def main_settings(cfg: CfgNode) -> dict[str, object]:
    """Returns the settings of a config that matter most, by key.

    Args:
        cfg: the config of a model.
    """
    maskiou = MASKIOU_KEYS if cfg.MODEL.MASKIOU_ON else ()
    values = {key: value_of(cfg, key) for key in (*KEYS, *maskiou, *SOLVER_KEYS)}
    # As in JSON.
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
