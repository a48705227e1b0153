"""How sure a gain in AP is: paired bootstrap over images."""

import hotcoco

SEED = 0


def gain_interval(before: hotcoco.COCOeval, after: hotcoco.COCOeval, samples: int) -> list[float]:
    """95% confidence interval of the AP that one set of detections gains over another.

    The images are drawn with replacement, as many as there are; both are evaluated on each draw,
    so that what makes an image easy or hard cancels.

    Args:
        before, after: matched with the instances of the same dataset, see
            :meth:`~.coco_metrics.HotcocoEngine.evaluated`; area ranges are not needed, and cost.
        samples: how often images are drawn, from a fixed seed.

    Returns:
        Lower and upper bound in percentage points.
    """
    found = hotcoco.compare(before, after, n_bootstrap=samples, seed=SEED, confidence=0.95)
    interval = found["ci"]["AP"]
    return [interval["lower"] * 100, interval["upper"] * 100]
