"""A trained model to take away: its weights alone, and the config to use them with."""

from pathlib import Path

from ..checkpoint import write_weights
from ..checkpoint.atomic_file import atomic_file
from .predictor import class_names, load_model


def export_model(cfg, output: Path, *, trust_weights: bool = False) -> Path:
    """Write a model's weights, without the state of its training, and its config beside.

    Args:
        cfg: a complete config with ``MODEL.WEIGHTS``.
        output: ends in ``.pth`` or ``.safetensors``.
        trust_weights: see :func:`~.predictor.load_model`.

    Returns:
        The path of the config: the same with ``.yaml``.

    Raises:
        UserError: if the weights cannot be had, or the file cannot be written.
    """
    model = load_model(cfg, trust_weights=trust_weights)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(output, model.state_dict())
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = output.name, "./output"  # nothing of this machine
    cfg.DATASETS.CLASS_NAMES = tuple(class_names(cfg))
    config = output.with_suffix(".yaml")
    with atomic_file(config) as file:
        file.write(cfg.dump().encode())
    return config


def config_beside(weights: str) -> str:
    """The config that was exported with weights; empty if there is none."""
    path = Path(weights).with_suffix(".yaml") if weights else None
    return str(path) if path is not None and path.is_file() else ""
