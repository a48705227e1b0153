"""A trained model to take away: its weights alone, and the config to use them with."""

from pathlib import Path

from ..atomic_file import write_file
from ..checkpoint import write_weights
from ..data.custom import is_own_data
from ..errors import UserError
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
    if output.resolve() == Path(cfg.MODEL.WEIGHTS).resolve():
        raise UserError(f"'{output}' is the checkpoint to export: give another name to write")
    model = load_model(cfg, trust_weights=trust_weights)
    write_weights(output, model.state_dict())
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.CLASS_NAMES = tuple(class_names(cfg))
    # Nothing of this machine: own data are named by their paths.
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = output.name, "./output"
    for split in ("TRAIN", "TEST"):
        names = cfg.DATASETS[split]
        cfg.DATASETS[split] = tuple(name for name in names if not is_own_data(name))
    cfg.SOLVER.TRAIN_ONLY = ()
    config = output.with_suffix(".yaml")
    write_file(config, cfg.dump())
    return config


def config_beside(weights: str) -> str:
    """The config that was exported with weights.

    Raises:
        UserError: if there is none.
    """
    path = Path(f"{Path(weights).with_suffix('')}.yaml") if weights else None
    if path is None or not path.is_file():
        where = f"there is no '{path}' beside the weights" if path else "no weights are given"
        raise UserError(f"give --config-file: {where}")
    return str(path)
