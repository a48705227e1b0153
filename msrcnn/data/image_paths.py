"""Where the image files of a dataset are."""

import os
from pathlib import Path, PureWindowsPath

from .coco_schema import image_name


def leaves_folder(image: dict) -> bool:
    """Whether the file name of an image may lead out of the image folder, on any system.

    Data from others could otherwise show private files in pictures and reports. Links in the folder
    are the user's own and are followed.

    Args:
        image: the record of a COCO-format file.
    """
    path = PureWindowsPath(image_name(image))  # splits at slashes and backslashes
    return bool(path.root) or ".." in path.parts


def named_folder(folder: str | Path) -> Path:
    """Returns an image folder that the user named.

    It is never ``Path()``, which means that file names are whole paths: only Python functions may
    name those.
    """
    return Path.cwd() if Path(folder) == Path() else Path(folder)


def image_path(image: dict, folder: Path) -> str:
    """Returns the path of an image as Detectron2 opens it: one that ends with ``/`` is a folder.

    Args:
        image: the record of a COCO-format file.
        folder: the directory that ``file_name`` is relative to; ``Path()`` if it is a whole path.
    """
    return os.path.join("" if folder == Path() else folder, image_name(image))
