"""Resolves ``MODEL.WEIGHTS``: a file, a URL, or a config in Detectron2's model zoo."""

import difflib
from pathlib import Path

from detectron2 import model_zoo
from detectron2.model_zoo.model_zoo import _ModelZooUrls

from ..errors import UserError


def resolve_weights(name: str) -> str:
    """Returns the path or URL of weights.

    Args:
        name: a path, a URL, or the name of a config in Detectron2's model zoo, such as
            ``COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x``, for the weights trained with it.

    Returns:
        A path or URL for Detectron2's ``PathManager``.

    Raises:
        UserError: if ``name`` is neither a file, a URL nor a model in the model zoo.
    """
    if "://" in name or Path(name).is_file():
        return name
    try:
        return model_zoo.get_checkpoint_url(name)
    except RuntimeError as error:  # raised for an unknown name
        known = _ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX
        wanted = name.removesuffix(".yaml")
        near = [model for model in known if model.endswith(f"/{wanted}")]
        near = near or difflib.get_close_matches(wanted, known)
        hint = f", nor a model in Detectron2's zoo; nearest: {', '.join(near)}" if near else ""
        what = (
            "is a folder: name the file of the weights" if Path(name).is_dir() else "no such file"
        )
        raise UserError(f"'{name}': {what}{hint}") from error
