"""Compares the outputs of an exported model with those of the model itself."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import UserError
from ..escaping import one_line

Run = Callable[[Tensor], dict[str, Tensor]]  # from an image to the outputs of SingleImage

# Other kernels add numbers in another order. In the models of the tests, this changes boxes by up
# to 0.0003 pixels, probabilities of masks by 0.0002 and scores by 0.00001; in deeper networks and
# larger images by more. These limits are still far below what a metric or an eye can see, and far
# below the effect of an operator with another meaning: RoIAlign without the half-pixel shift
# samples features 2 to 16 pixels away.
TOLERANCES = {
    "pred_boxes": 0.1,  # pixels
    "scores": 1e-3,
    "pred_masks": 1e-2,
    "pred_maskiou": 1e-3,
    "mask_scores": 1e-3,
}
# NMS and the limit on the number of detections compare numbers: rounding can tip one.
ALLOWED = 0.05


@torch.no_grad()
def check_same(expected: Run, found: Run, images: Sequence[Tensor]) -> None:
    """Compares an exported model with the model itself.

    Args:
        expected: the model.
        found: the exported model.
        images: the images to run both on.

    Raises:
        UserError: if their detections differ by more than rounding.
    """
    differing = total = 0
    for image in images:
        ours, theirs = expected(image), _run(found, image)
        if list(ours) != list(theirs):
            raise UserError(f"the exported model returns {list(theirs)}, not {list(ours)}")
        both = len(ours["scores"]) + len(theirs["scores"])
        total += both
        differing += both - 2 * agreeing(ours, theirs)
    if differing > ALLOWED * total:
        raise UserError(
            f"nothing was exported: on {len(images)} test pictures, {differing} of {total} "
            "detections of the model and of its export have no match in the other"
        )


def _run(found: Run, image: Tensor) -> dict[str, Tensor]:
    try:
        return found(image)
    except Exception as error:  # whatever a runtime raises
        raise UserError(
            "nothing was exported: the exported model fails on a test picture: "
            f"{one_line(str(error))}"
        ) from error


def agreeing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> int:
    """Counts the detections that two models have in common, in any order.

    Args:
        ours, theirs: outputs of a ``SingleImage`` for the same image.
    """
    ours, theirs = ({k: v.cpu() for k, v in found.items()} for found in (ours, theirs))
    if 0 in (len(ours["scores"]), len(theirs["scores"])):
        return 0
    distance = (ours["pred_boxes"][:, None] - theirs["pred_boxes"]).abs().amax(dim=2)
    distance[ours["pred_classes"][:, None] != theirs["pred_classes"]] = torch.inf
    distance, nearest = distance.min(dim=1)
    same = distance.isfinite()
    for name, tolerance in TOLERANCES.items():
        if name in ours:
            difference = (ours[name] - theirs[name][nearest]).abs().reshape(len(same), -1)
            same &= (difference <= tolerance).all(dim=1)
    return len(nearest[same].unique())
