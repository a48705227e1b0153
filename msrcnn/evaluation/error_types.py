"""Which kinds of errors cost AP: TIDE (Bolya et al., ECCV 2020)."""

import hotcoco

IOU_THRESHOLD = 0.5  # of a right detection
MIN_OVERLAP = 0.1  # below it, a detection is on background
# TIDE's names of the errors of a detection or an instance, and of two that it counts together.
ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
SPECIAL = ("FP", "FN")


def error_types(matched: hotcoco.COCOeval) -> dict:
    """Computes how much AP50 would rise without each type of error.

    Args:
        matched: an evaluation after ``evaluate()``.

    Returns:
        A dict with

        * ``AP50`` in percent;
        * ``delta_ap``: for each of ``ERRORS`` and ``SPECIAL``, the gain in AP50, in percentage
          points, if these errors were corrected;
        * ``counts``: the number of each of ``ERRORS``.
    """
    found = matched.tide_errors(pos_thr=IOU_THRESHOLD, bg_thr=MIN_OVERLAP)
    return {
        "AP50": 100 * found["ap_base"],
        "delta_ap": {name: 100 * found["delta_ap"][name] for name in (*ERRORS, *SPECIAL)},
        "counts": {name: found["counts"][name] for name in ERRORS},
    }
