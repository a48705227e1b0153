"""Tables of the evidence, from the sweeps `claim` in docs/results/claim.

The functions print Markdown for cog, as those of :mod:`tables`.
"""

from collections.abc import Sequence
from statistics import fmean, variance

from scipy import stats
from tables import evaluation, excludes_zero, gain, number, print_table, record

from msrcnn.evaluation import student_interval
from msrcnn.evaluation.intervals import CONFIDENCE

LABELS = {"shapes": "shapes", "animals": "animals", "nuclei": "nuclei", "ccp": "clothing"}
# The detectors of the demo with three seeds, on 800 images of their own.
SHORT = [f"scores/shapes_fresh_defaults_seed{seed}" for seed in (1, 2, 3)]
LINK = "docs/results/claim/{}/results.json"  # from the README
BOX_AP = ("box AP", "box AP by mask score")
CLAIMED = 2.0  # points of mask AP that the fitted head should gain
FITTED = "full"  # the variant with the defaults of `msrcnn fit-scores`
AGREEMENT = {
    "box score": ("joint", "box_score"),
    "mask confidence": ("joint", "mask_confidence"),
    "joint head": ("joint", "maskiou"),
    "fitted, matched": ("matched", "maskiou"),
    "fitted, all": (FITTED, "maskiou"),
}


def claims() -> dict[str, dict]:
    """Returns the sweeps by the name of their data."""
    return {name: record(f"claim/{name}/results") for name in LABELS}


def interval(values: list[float]) -> str:
    """Returns a cell with the mean of a difference over seeds and its 95% interval."""
    return gain({"AP": fmean(values), "ci95": student_interval(values)})


def per_seed(found: dict, variant: str, column: str) -> list[float]:
    return [run["values"][column] for run in found["variants"][variant]["runs"]]


def paired(values: list[float], others: list[float]) -> list[float]:
    """Returns the differences of values and others, by seed."""
    return [value - other for value, other in zip(values, others, strict=True)]


def gains(found: dict, variant: str) -> list[float]:
    """Returns what the mask score of a variant gains over the box score, by seed."""
    return per_seed(found, variant, "gain over box score")


def free_gains(found: dict, variant: str = "joint") -> list[float]:
    """Returns what mask confidence gains over the box score, by seed.

    Args:
        found: a sweep.
        variant: ``"joint"``, which has an exponent of 1, or a fit, which chooses the exponent on
            held-out training images.
    """
    columns = ("AP by mask confidence", "AP by box score")
    return paired(*(per_seed(found, variant, column) for column in columns))


def summary() -> None:
    """Each dataset: AP by box score, and what the other scores gain."""
    rows = [_summarized(name, found) for name, found in claims().items()]
    headers = ["data", "seeds", "mask AP by box score", "gain of mask confidence"]
    headers += ["gain of the joint head", "gain of the fitted head"]
    print_table([*headers, "its gain in box AP"], rows)


def _summarized(name: str, found: dict) -> list[str]:
    means = found["variants"][FITTED]["mean"]
    return [
        f"[{LABELS[name]}]({LINK.format(name)})",
        str(len(found["protocol"]["seeds"])),
        number(means["AP by box score"]),
        *(interval(free_gains(found)), interval(gains(found, "joint"))),
        interval(gains(found, FITTED)),
        interval(paired(*(per_seed(found, FITTED, column) for column in reversed(BOX_AP)))),
    ]


def better_detector() -> None:
    """What scores gain on the detectors of shapes, after a short and a long training."""
    runs, found = [evaluation(name) for name in SHORT], claims()["shapes"]
    box, free = (
        [run[ranking]["AP"] for run in runs]
        for ranking in ("segm_box_score", "segm_mask_confidence")
    )
    long_box = per_seed(found, FITTED, "AP by box score")
    (curve, *_) = found["learning_curves"].values()
    rows = []
    for iterations, before, of_free, of_fitted in (
        (
            record("demo")["training"]["steps"],
            box,
            paired(free, box),
            [run["delta"]["AP"] for run in runs],
        ),
        (curve[-1]["iteration"], long_box, free_gains(found, FITTED), gains(found, FITTED)),
    ):
        cells = (interval(each) for each in (of_free, of_fitted, paired(of_fitted, of_free)))
        rows.append([f"{iterations:,}", number(fmean(before)), *cells])
    headers = ["iterations", "mask AP by box score", "gain of mask confidence"]
    print_table([*headers, "gain of the fitted head", "fitted head over mask confidence"], rows)


def verdict() -> None:
    """What the fitted head gains over the others: by dataset, and over all trainings."""
    found = claims()
    differences: dict[str, list[list[float]]] = {}
    for each in found.values():
        fitted, joint, free = gains(each, FITTED), gains(each, "joint"), free_gains(each)
        for label, values in (
            ("fitted head over box score", fitted),
            ("fitted head over mask confidence", paired(fitted, free)),
            ("the same, its exponent chosen by the fit", paired(fitted, free_gains(each, FITTED))),
            ("fitted head over joint head", paired(fitted, joint)),
            ("joint head over mask confidence", paired(joint, free)),
        ):
            differences.setdefault(label, []).append(values)
    rows = []
    for label, by_data in differences.items():
        tested = [(fmean(values), student_interval(values)) for values in by_data]
        sure = sum(bool(bounds and excludes_zero(bounds)) for _, bounds in tested)
        cells = [_bold_if_significant(*each) for each in [*tested, mean_of_data(by_data)]]
        rows.append([label, *cells, f"{sure} of {len(tested)}"])
    headers = ["difference in mask AP", *_labels(found)]
    print_table([*headers, "mean of the datasets", "significant on"], rows)
    print()
    for name, values in zip(_labels(found), differences["fitted head over box score"], strict=True):
        low, high = student_interval(values) or (float("-inf"), float("inf"))
        side = "above" if fmean(values) >= CLAIMED else "below"
        sure = "within" if low <= CLAIMED <= high else "outside"
        print(f"* {name.capitalize()}: the mean gain over the box score is {side} {CLAIMED:g},")
        print(f"  which is {sure} the 95% interval of the gain.")


def mean_of_data(by_data: Sequence[Sequence[float]]) -> tuple[float, list[float]]:
    """Returns the mean over datasets of a difference, and its 95% interval over trainings.

    The datasets are fixed: only the variation between trainings on the same data counts.
    """
    mean = fmean(map(fmean, by_data))
    error = sum(variance(values) / len(values) for values in by_data) ** 0.5 / len(by_data)
    freedom = sum(len(values) - 1 for values in by_data)
    return mean, [mean + bound * error for bound in stats.t.interval(CONFIDENCE, freedom)]


def _bold_if_significant(mean: float, bounds: list[float] | None) -> str:
    """Returns the mean of a difference and its interval, in bold if that excludes 0."""
    cell = gain({"AP": mean, "ci95": bounds})
    return f"**{cell}**" if bounds and excludes_zero(bounds) else cell


def earlier() -> None:
    """What two trainings of half the length gained on animals."""
    names = ("scores/animals_fitted", "scores/animals_again_fitted")
    first, second = (evaluation(name) for name in names)
    gained = " and ".join(f"{each['delta']['AP']:+.2f}" for each in (first, second))
    before = " and ".join(f"{each['segm_box_score']['AP']:.2f}" for each in (first, second))
    print("Single trainings say little: two earlier ones on animals, of half the length, with the")
    print(f"same commands on two machines, gained {gained} over a mask AP")
    print(f"of {before}.")


def scores() -> None:
    """What every score gains over the box score, and what the true MaskIoU would."""
    found = claims()
    free = {"mask confidence": "joint", "mask confidence, exponent chosen by the fit": FITTED}
    rows = [
        [label, *(interval(free_gains(f, variant)) for f in found.values())]
        for label, variant in free.items()
    ]
    variants = next(iter(found.values()))["variants"]
    for name, variant in variants.items():
        rows.append([variant["label"], *(interval(gains(f, name)) for f in found.values())])
    bounds = {"segm_oracle_matched": "true MaskIoU, matched", "segm_oracle": "true MaskIoU, all"}
    for ranking, label in bounds.items():
        rows.append([label, *(f"{_overall(f, ranking):+.2f}" for f in found.values())])
    print_table(["score", *_labels(found)], rows)


def shares() -> None:
    """How much of what the true MaskIoU would gain the heads gain."""
    for name, found in claims().items():
        joint, fitted = (fmean(gains(found, variant)) for variant in ("joint", FITTED))
        of_matched = joint / _overall(found, "segm_oracle_matched")
        of_all = fitted / _overall(found, "segm_oracle")
        print(f"* {LABELS[name].capitalize()}: the joint head reaches {of_matched:.0%} of the gain")
        print("  of the true MaskIoU of matched detections; the fitted head reaches")
        print(f"  {of_all:.0%} of the gain of the true MaskIoU of all detections.")


def _overall(found: dict, ranking: str) -> float:
    means = found["variants"][FITTED]["breakdown"]["all"]["all"]["AP"]
    return means[ranking] - means["segm_box_score"]


def _labels(found: dict) -> list[str]:
    return [LABELS[name] for name in found]


def groups() -> None:
    """What the fitted head gains by size and by IoU threshold."""
    found = claims()
    parts = {name: f["variants"][FITTED]["breakdown"] for name, f in found.items()}
    wanted = [("size", size) for size in ("small", "medium", "large")]
    wanted += [("iou", threshold) for threshold in ("0.50", "0.75", "0.90")]
    rows = []
    for kind, member in wanted:
        cells = [_group_gain(part[kind].get(member)) for part in parts.values()]
        rows.append([f"IoU {member}" if kind == "iou" else member, *cells])
    print_table(["instances, or IoU", *_labels(found)], rows)


def _group_gain(group: dict | None) -> str:
    if group is None:
        return "-"
    return gain({"AP": group["gain"]["mean"], "ci95": group["gain"]["ci95"]})


def classes() -> None:
    """The classes that gain most and least, with as many as gain and lose."""
    rows = []
    for name, found in claims().items():
        members = found["variants"][FITTED]["breakdown"]["class"]
        by_gain = sorted(members.items(), key=lambda item: item[1]["gain"]["mean"])
        intervals = [group["gain"]["ci95"] for group in members.values()]
        sure = [each for each in intervals if each and excludes_zero(each)]
        up = sum(each[0] > 0 for each in sure)
        ends = [f"{key} {_group_gain(group)}" for key, group in (by_gain[-1], by_gain[0])]
        rows.append([LABELS[name], str(len(members)), str(up), str(len(sure) - up), *ends])
    headers = ["data", "classes", "significantly better", "significantly worse"]
    print_table([*headers, "largest gain", "smallest gain"], rows)


def agreement() -> None:
    """How well each score agrees with the true MaskIoU: of matched detections, and of all."""
    found = claims()
    rows = []
    for label, (variant, score) in AGREEMENT.items():
        for suffix, scope in (("", "matched"), ("_all", "all")):
            cells = []
            for f in found.values():
                values = f["variants"][variant]["breakdown"]["agreement"][score]
                keys = (f"{key}{suffix}" for key in ("pearson", "spearman", "calibration_error"))
                cells.append(" / ".join(number(values[key]) for key in keys))
            rows.append([label, scope, *cells])
    print_table(["score", "detections", *_labels(found)], rows)


def curves() -> None:
    """The learning curves of the detectors."""
    found = claims()
    for name in found:
        print(
            f"![Mask AP of the {name} detectors over their training]"
            f"(results/claim/{name}/learning_curve.png)"
        )


def last_steps() -> None:
    """What the last part of the training gained: mean over seeds of mask AP by box score."""
    rows = []
    for name, found in claims().items():
        curves_by_seed = list(found["learning_curves"].values())
        steps = [point["iteration"] for point in curves_by_seed[0]]
        means = [
            fmean(curve[index]["segm_box_score"] for curve in curves_by_seed)
            for index in range(len(steps))
        ]
        cells = [f"{value:.2f} ({step:,})" for step, value in zip(steps, means, strict=True)]
        rows.append([LABELS[name], ", ".join(cells)])
    print_table(["data", "mask AP by box score (iterations)"], rows)


def records() -> None:
    """Command, hardware and record of each sweep."""
    rows = [
        [
            f"[{name}](results/claim/{name}/results.json)",
            f"`make reproduce-{name}`",
            found["hardware"],
        ]
        for name, found in claims().items()
    ]
    print_table(["record", "command", "hardware"], rows)
