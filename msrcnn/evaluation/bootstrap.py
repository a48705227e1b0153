"""Paired bootstrap over images: the confidence interval of a difference in AP."""

import hotcoco

SEED = 0


def gain_interval(before: hotcoco.COCOeval, after: hotcoco.COCOeval, samples: int) -> list[float]:
    """Returns the 95% confidence interval of the AP that ``after`` gains over ``before``.

    Each sample draws as many images as the dataset has, with replacement, and computes AP of both
    on the same images. Pairing removes the variance due to easy and hard images.

    Args:
        before, after: results on the same dataset, matched with its instances by
            :meth:`~.coco_metrics.HotcocoEngine.match`. Area ranges are not needed; leaving them
            out saves time.
        samples: number of bootstrap samples, drawn from a fixed seed.

    Returns:
        Lower and upper bound in percentage points.
    """
    comparison = hotcoco.compare(before, after, n_bootstrap=samples, seed=SEED, confidence=0.95)
    interval = comparison["ci"]["AP"]
    return [interval["lower"] * 100, interval["upper"] * 100]
