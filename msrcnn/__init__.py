"""Mask Scoring R-CNN (Huang et al., CVPR 2019, arXiv 1903.00241) as an extension of Detectron2.

Importing the package registers its heads, datasets and ``torchvision://`` weights with Detectron2.
"""

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise  # one of the packages that Detectron2 imports
    raise ImportError(
        "msrcnn needs Detectron2. Install it (from PyPI, pure Python) with the command "
        "`install_detectron2.py`, which is installed beside `msrcnn`."
    ) from error

from typing import TYPE_CHECKING

from . import checkpoint, data, modeling  # noqa: F401  (registers with Detectron2)
from .config import add_msrcnn_config, get_config
from .version import __version__

if TYPE_CHECKING:
    from .prediction import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "__version__", "add_msrcnn_config", "get_config"]


def __getattr__(name: str) -> object:
    """Imports the predictor when it is used: the drawing that it includes takes a second."""
    if name in ("Prediction", "Predictor"):
        from . import prediction

        return getattr(prediction, name)
    raise AttributeError(f"module 'msrcnn' has no attribute '{name}'")
