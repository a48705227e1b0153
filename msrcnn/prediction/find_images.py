"""Finds the images of a command line."""

import glob
from pathlib import Path

from PIL import Image

from ..errors import UserError


def find_images(arguments: list[str]) -> dict[Path, Path]:
    """Returns the images that files, folders and patterns name.

    Args:
        arguments: each an image file, a folder, whose images are found at any depth, or a pattern
            as of a shell, such as ``photos/*.jpg``.

    Returns:
        For each image its path in an output folder, without an extension: the name of a file, and
        for a folder the path below it. A named file is not checked: it may turn out to be none.

    Raises:
        UserError: if an argument names nothing, or two images would have the same output.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            images = {image: image.relative_to(path) for image in _images_in(path)}
        elif path.exists() or not glob.has_magic(argument):
            images = {path: Path(path.name)}
        else:
            images = {Path(name): Path(Path(name).name) for name in sorted(glob.glob(argument))}
        if not images:
            raise UserError(f"'{argument}': there is no image")
        found.update({image: output.with_suffix("") for image, output in images.items()})
    by_output: dict[Path, Path] = {}
    for image, output in found.items():
        if output in by_output:
            raise UserError(
                f"'{by_output[output]}' and '{image}' would both be drawn in '{output}.png': use "
                "two commands with different output folders"
            )
        by_output[output] = image
    return found


def _images_in(folder: Path) -> list[Path]:
    extensions = Image.registered_extensions()
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in extensions and path.is_file()
    )
