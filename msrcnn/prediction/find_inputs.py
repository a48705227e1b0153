"""Finds the images and videos of a command line."""

import glob
import os
from collections import Counter
from pathlib import Path

from PIL import Image

from ..errors import UserError
from .video_input import VIDEOS


def find_inputs(arguments: list[str], output_folder: Path | None = None) -> dict[Path, Path]:
    """Returns the images and videos that files, folders and patterns name.

    Args:
        arguments: each an image or video file, a folder, whose images are found at any depth, or a
            pattern as of a shell, such as ``photos/*.jpg``.
        output_folder: where the drawings will be; if it is inside a folder of images, drawings of
            an earlier run there are left out.

    Returns:
        For each input the path of its drawing in an output folder: the name of a file, and for a
        folder the path below it, ending in ``.png`` or ``.mp4`` instead of its own extension, or
        after it if other inputs differ in nothing else. A named file is not checked: it may turn
        out to be none.

    Raises:
        UserError: if an argument names nothing or the output folder, or two inputs would have the
            same output.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        if "://" in argument:
            raise UserError(f"'{argument}' is a URL: download the file, and name that")
        if not argument:  # as of a variable that is not set; Path("") is the current folder
            raise UserError("an INPUT is empty: name an image, a folder or a pattern")
        path = Path(argument)
        if path.is_dir():
            inputs = {image: image.relative_to(path) for image in _images_in(path, output_folder)}
        elif path.exists() or not glob.has_magic(argument):
            inputs = {path: Path(path.name)}
        else:
            inputs = {Path(name): Path(Path(name).name) for name in sorted(glob.glob(argument))}
        if not inputs:
            raise UserError(f"'{argument}': there is no image")
        for each, output in inputs.items():
            found[each] = output.with_suffix(".mp4" if is_video(each) else ".png")
    number = Counter(found.values())
    by_output: dict[Path, Path] = {}
    for each, output in found.items():
        if number[output] > 1:  # a.jpg and a.png
            output = output.with_name(each.name + output.suffix)
            found[each] = output
        if output in by_output:
            above = os.path.commonpath([by_output[output].parent, each.parent])
            raise UserError(
                f"'{by_output[output]}' and '{each}' would both be drawn in '{output}': give the "
                f"folder '{above or '.'}', whose subfolders are kept, or use two commands with "
                "different output folders"
            )
        by_output[output] = each
    return found


def is_video(path: Path) -> bool:
    """Whether the name of a file is that of a video."""
    return path.suffix.lower() in VIDEOS


def _images_in(folder: Path, output_folder: Path | None) -> list[Path]:
    extensions = Image.registered_extensions().keys() - VIDEOS
    left_out = None
    if output_folder is not None and folder.resolve() == output_folder.resolve():
        raise UserError(
            f"--output is '{folder}' itself, so that the drawings would be images of the next run: "
            "choose a folder in it or beside it"
        )
    if output_folder is not None and folder.resolve() in output_folder.resolve().parents:
        left_out = folder / output_folder.resolve().relative_to(folder.resolve())
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in extensions and left_out not in path.parents and path.is_file()
    )
