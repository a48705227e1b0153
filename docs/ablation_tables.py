"""Tables and sentences about the ablations, from the sweeps in docs/results/ablations.

The functions print Markdown for cog, as those of :mod:`tables`.
"""

from claim_tables import LABELS, interval, paired, per_seed
from tables import RESULTS, excludes_zero, gain, number, print_table, record

from msrcnn.evaluation import student_interval

# In the order of the paper, then our own.
SWEEPS = [
    *("head_input", "training_target", "sample_threshold", "backbone", "framework"),
    *("loss", "head_cost", "samples", "score", "joint_training"),
]
DEFAULT = "scalars_exponents"  # the variant of the sweep `score` with the defaults of a fit
# Variants of the sweep `score` that add to the default fit.
OPTIONS = {
    "views": "four views of each image",
    "one_per_instance": "one match per instance",
    "context": "one match per instance, overlaps with better detections as inputs",
    "lite_context": "the same with the lite head",
}


def recorded(sweep: str) -> dict[str, dict]:
    """Returns the results of a sweep by the name of their data."""
    names = [name for name in LABELS if (RESULTS / "ablations" / f"{sweep}_{name}").is_dir()]
    return {name: record(f"ablations/{sweep}_{name}/results") for name in names}


def sweeps() -> None:
    """Each sweep: AP of the baseline, differences from it, and what they show."""
    for name in SWEEPS:
        found = recorded(name)
        if not found:
            continue
        first = next(iter(found.values()))
        print(f"\n### {first['title']}\n")
        published = ["published"] * bool(first["published_source"])
        print_table(["", *_headers(name, found), *published], _rows(found))
        print()
        if first["published_source"]:
            print(f"* Published: {first['published_source']}.")
        for data, results in found.items():
            print(f"* {LABELS[data].capitalize()}: {conclusion(results)}")


def _ran(results: dict, variant: str) -> bool:
    return variant in results["variants"] and bool(results["variants"][variant]["runs"])


def over_default_fit() -> None:
    """What options of a fit gain over its default, paired by seed."""
    found = recorded("score")
    gained = {
        label: [
            paired(*(per_seed(results, name, "AP") for name in (variant, DEFAULT)))
            if _ran(results, variant) and _ran(results, DEFAULT)
            else []
            for results in found.values()
        ]
        for variant, label in OPTIONS.items()
    }
    rows = [
        [label, *(interval(values) if values else "-" for values in each)]
        for label, each in gained.items()
    ]
    print_table(["option", *_headers("score", found)], rows)
    differences = [values for each in gained.values() for values in each if values]
    bounds = map(student_interval, differences)
    different = sum(map(excludes_zero, bounds)) or "none"
    print(f"\nStatistically significant: {different} of these {len(differences)} differences.")


def protocols() -> None:
    """What was trained for each group of sweeps."""
    by_description: dict[str, list[str]] = {}
    for sweep in SWEEPS:
        for data, results in recorded(sweep).items():
            description = results["protocol"]["description"]
            by_description.setdefault(description, []).append(f"{sweep} ({LABELS[data]})")
    for description, names in by_description.items():
        print(f"* {', '.join(names)}: {description}")


def _headers(sweep: str, found: dict[str, dict]) -> list[str]:
    return [f"[{LABELS[data]}](results/ablations/{sweep}_{data}/table.md)" for data in found]


def _rows(found: dict[str, dict]) -> list[list[str]]:
    first = next(iter(found.values()))
    rows = []
    for name, variant in first["variants"].items():
        cells = [
            _cell(results["variants"][name]) if _ran(results, name) else "-"
            for results in found.values()
        ]
        if first["published_source"]:
            published = variant["published"].get("AP")
            cells.append("-" if published is None else f"{published:.1f}")
        rows.append([variant["label"], *cells])
    return rows


def _cell(variant: dict) -> str:
    """Returns the AP of the baseline, or the difference from it."""
    difference = variant["difference"]
    if difference is None:
        column = next(iter(variant["mean"]))
        return f"{number(variant['mean'][column])} ± {number(variant['std'][column])}"
    text = gain({"AP": difference["mean"], "ci95": difference["ci95"]})
    return f"**{text}**" if excludes_zero(difference["ci95"]) else text


def conclusion(results: dict) -> str:
    """Says which variants differ significantly, and what would have been significant."""
    baseline = results["variants"][results["baseline"]]["label"]
    differences = {
        each["label"]: each["difference"]
        for each in results["variants"].values()
        if each["difference"]
    }
    significant = {
        label: each["mean"] for label, each in differences.items() if excludes_zero(each["ci95"])
    }
    sentences = []
    for comparison, sign in (("Better", 1), ("Worse", -1)):
        found = [
            f'"{label}" by {abs(mean):.2f}'
            for label, mean in significant.items()
            if mean * sign > 0
        ]
        if found:
            sentences.append(f'{comparison} than "{baseline}": {", ".join(found)}.')
    others = [
        each["ci95"]
        for label, each in differences.items()
        if label not in significant and each["ci95"]
    ]
    if others:
        widest = max((high - low) / 2 for low, high in others)
        other = "other " if significant else ""
        sentences.append(
            f"No {other}difference is statistically significant; the widest of the intervals is "
            f"±{widest:.2f}."
        )
    if any(each["ci95"] is None for each in differences.values()):
        sentences.append("Differences without an interval are not tested.")
    return " ".join(sentences)
