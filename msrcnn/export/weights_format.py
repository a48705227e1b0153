"""Weights without the training state, and the config, which Detectron2 and msrcnn load."""

from pathlib import Path

from ..atomic_file import write_file
from ..checkpoint import write_weights
from ..checkpoint.write_weights import check_weights_name
from ..data.custom import is_custom_dataset
from ..engine import load_with_its_scores
from ..engine.model_classes import class_names


def export_weights(cfg, output: Path, *, trust_weights: bool = False) -> Path:
    """Exports a model's weights, without the training state, and its config.

    Args:
        cfg: a config with ``MODEL.WEIGHTS``.
        output: path of the weights, ending in ``.pth`` or ``.safetensors``.
        trust_weights: see :func:`~msrcnn.engine.load_with_its_scores`.

    Returns:
        The path of the config: ``output`` with the suffix ``.yaml``.

    Raises:
        UserError: if the weights cannot be loaded, or the file cannot be written; for another
            extension, before the weights are loaded.
    """
    check_weights_name(output)  # before the time that loading takes
    cfg, model = load_with_its_scores(cfg, trust_weights=trust_weights)
    names = class_names(cfg)
    write_weights(output, model.state_dict(), names)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.CLASS_NAMES = tuple(names)
    # Leave out what only means something on this machine: custom datasets are named by paths.
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = output.name, "./output"
    for split in ("TRAIN", "TEST"):
        names = cfg.DATASETS[split]
        cfg.DATASETS[split] = tuple(name for name in names if not is_custom_dataset(name))
    cfg.SOLVER.TRAIN_ONLY = ()
    config = output.with_suffix(".yaml")
    write_file(config, cfg.dump())
    return config
