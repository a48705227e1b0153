"""Finds a trained model and its config from the name, path or folder that a user gives."""

from pathlib import Path

from detectron2 import model_zoo

from ..checkpoint.checkpoint_files import FINAL_WEIGHTS
from ..config import config_beside
from ..errors import UserError

COMPUTATIONS = (".ts", ".onnx")  # not `.pt`, which can be either
FORMATS = (".pth", ".safetensors", ".pkl")


def find_model(name: str, config_file: str = "") -> tuple[str, str]:
    """Returns the weights of a model and its config.

    Args:
        name: the folder of an export, a fit or a training. With a config, also any
            ``MODEL.WEIGHTS``, which are returned as they are. Without one, a file of weights with
            its config beside it (:func:`~msrcnn.config.config_beside`), or a name of Detectron2's
            model zoo, such as ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x``, whose config
            Detectron2 has.
        config_file: the config, if it is given.

    Raises:
        UserError: if there is no config, or a folder has no model or several.
    """
    path = Path(name)
    if name and path.is_dir():
        name = str(_in_folder(path))
        return name, config_file or config_beside(name)
    if config_file:
        return name, config_file
    if not name:
        raise UserError("there are no weights to find a config beside: give --config-file")
    if "://" not in name and not path.is_file():
        if config := _zoo_config(name):
            return name, config
        if _has_python_config(name):
            raise UserError(
                f"the config of '{name}' is Python code, which msrcnn does not run: build the "
                "model in Python by detectron2.model_zoo.get, or give --config-file, a YAML config"
            )
        raise UserError(f"'{name}' is neither a file nor a folder, nor a model of Detectron2's zoo")
    if path.suffix in COMPUTATIONS:
        raise UserError(
            f"'{name}' is an export that runs without msrcnn, see docs/export.md; give the "
            "checkpoint that it was exported from"
        )
    return name, config_beside(name)


def _in_folder(folder: Path) -> Path:
    """Returns the weights with a config of their own, or else those of a training."""
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in FORMATS and path.with_suffix(".yaml").is_file()
    )
    trained = folder / FINAL_WEIGHTS
    if not found and trained.is_file():
        return trained
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        what = f"has several models: {names}" if found else "has no model with its config"
        raise UserError(f"folder '{folder}' {what}; name the file of the weights")
    return found[0]


def _zoo_config(name: str) -> str | None:
    try:
        model_zoo.get_checkpoint_url(name)
        return model_zoo.get_config_file(name if name.endswith(".yaml") else f"{name}.yaml")
    except RuntimeError:  # no such model
        return None


def _has_python_config(name: str) -> bool:
    try:
        model_zoo.get_config_file(f"{name.removesuffix('.py')}.py")
    except RuntimeError:
        return False
    return True
