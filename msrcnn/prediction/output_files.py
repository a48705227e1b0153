"""The files that ``msrcnn predict`` writes."""

import re
from pathlib import Path

from ..errors import UserError

MASK = re.compile(r"(?P<of>.+)_mask\d+\.png")  # the names of :func:`mask_path`


def mask_path(picture: Path, number: int) -> Path:
    """Returns the path of the mask of a detection.

    Args:
        picture: path of the drawing, without its extension.
        number: number of the detection in the drawing, from 1.
    """
    return picture.with_name(f"{picture.name}_mask{number}.png")


def check_outputs(outputs: dict[Path, Path], *, masks: bool = False) -> None:
    """Rejects outputs that would overwrite an input or each other.

    Args:
        outputs: path of the drawing by path of the input.
        masks: whether masks are written beside the drawings.

    Raises:
        UserError: naming the first input.
    """
    inputs = {path.resolve() for path in outputs}
    owners = {output.with_suffix(""): path for path, output in outputs.items()}
    for path, output in outputs.items():
        if output.resolve() in inputs:
            raise UserError(f"the drawing of '{path}' would overwrite '{output}'")
        mask = MASK.fullmatch(output.name)
        if masks and mask and (owner := owners.get(output.with_name(mask["of"]))):
            raise UserError(
                f"the drawing of '{path}' and a mask of '{owner}' would both be '{output}': use "
                "two commands with different output folders"
            )
