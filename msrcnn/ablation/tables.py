"""The results of a sweep as tables: text, Markdown and CSV."""

import csv
import io

from tabulate import tabulate

from ..escaping import for_csv, for_markdown, printable
from ..evaluation.bootstrap import MIN_IMAGES

MILLIONS = ("cost/parameters", "cost/multiply_adds")


def table(results: dict, tablefmt: str = "simple") -> str:
    """Returns a table with a row per variant, like those of the paper.

    Args:
        results: see :func:`~.collect.collect`.
        tablefmt: a format of tabulate.

    Returns:
        The columns of the sweep (mean and standard deviation over seeds), the difference of the
        first column from the baseline with its 95% interval, and the published numbers if they are
        for the same data and training.
    """
    escape = for_markdown if tablefmt == "pipe" else printable
    columns, variants = results["columns"], results["variants"]
    published = [
        column
        for column in columns
        if results["comparable"] and any(column in v["published"] for v in variants.values())
    ]
    headers = ["", *columns]
    headers.append(f"{next(iter(columns))} over {variants[results['baseline']]['label']}")
    headers += [f"published {column}" for column in published]
    rows = []
    for variant in variants.values():
        done, seeds = len(variant["runs"]), len(results["protocol"]["seeds"])
        rows.append(
            [
                escape(variant["label"]) + ("" if done == seeds else f" ({done} of {seeds} seeds)"),
                *(_cell(variant, column, key) for column, key in columns.items()),
                _difference(variant["difference"]),
                *(str(variant["published"].get(column, "-")) for column in published),
            ]
        )
    headers = [escape(header) for header in headers]
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def notes(results: dict) -> list[str]:
    """Returns the notes below the table."""
    protocol, variants = results["protocol"], results["variants"].values()
    lines = [protocol["description"]]
    if results["comparable"] and any(variant["published"] for variant in variants):
        lines.append(f"Published numbers: {results['published_source']}.")
    if results["detector"]:
        box, mask, best = (
            _number((results["detector"][task] or {}).get("AP"))
            for task in ("bbox", "segm_box_score", "segm_oracle")
        )
        lines.append(
            f"All variants have the same boxes and masks, with box AP {box} and mask AP {mask} by "
            f"box score; ranked by the true MaskIoU, the masks would reach {best}."
        )
    over = {variant["difference"]["over"] for variant in variants if variant["difference"]}
    if "seeds" in over:
        lines.append(
            "Mean ± standard deviation over seeds; in brackets, the 95% confidence interval of the "
            "difference between runs with the same seed (Student's t)."
        )
    if "images" in over:
        lines.append("In brackets, the 95% confidence interval by paired bootstrap over images.")
    elif None in over and len(protocol["seeds"]) == 1:
        lines.append(
            "No confidence interval: with one seed there is one only for AP by mask score, and it "
            f"needs inference/predictions.npz of the runs and at least {MIN_IMAGES} images."
        )
    if results.get("mixed_versions"):  # older records do not have them
        lines.append(
            "Warning: the runs come from different versions of "
            f"{', '.join(results['mixed_versions'])} (see versions in their result.json)."
        )
    if results["missing"]:
        lines.append(f"Not finished: {', '.join(results['missing'])}.")
    return lines


def markdown(results: dict) -> str:
    """Returns title, table and notes in Markdown."""
    title = f"### {for_markdown(heading(results))}"
    lines = map(for_markdown, notes(results))
    return "\n\n".join([title, table(results, "pipe"), *lines]) + "\n"


def heading(results: dict) -> str:
    """Returns the title and the protocol."""
    return f"{results['title']} ({results['protocol']['label']})"


def as_csv(results: dict) -> str:
    """Returns a CSV table with a line per run, and the mean and std of each variant.

    If they are for the same data and training, a line has the published numbers.

    The column ``seed`` contains the seed, or ``mean``, ``std`` or ``published``. The difference
    from the baseline and its interval are in the line of the mean.
    """
    protocol, columns = results["protocol"], results["columns"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("protocol", "head_only", "variant", "label", "seed", *map(for_csv, columns))
    writer.writerow([*names, "difference", "ci95_low", "ci95_high", "steps"])
    for name, variant in results["variants"].items():
        start = [protocol["name"], protocol["head_only"], name, for_csv(variant["label"])]
        nothing = [None, None, None]
        for run in variant["runs"]:
            values = map(run["values"].get, columns)
            writer.writerow([*start, run["seed"], *values, *nothing, run["steps"]])
        difference = nothing
        if variant["difference"]:
            interval = variant["difference"]["ci95"] or [None, None]
            difference = [variant["difference"]["mean"], *interval]
        kinds = {"mean": difference, "std": nothing}
        if results["comparable"]:
            kinds["published"] = nothing
        for kind, extra in kinds.items():
            values = [variant[kind].get(column) for column in columns]
            if any(value is not None for value in values):
                writer.writerow([*start, kind, *values, *extra, None])
    return text.getvalue()


def _cell(variant: dict, column: str, key: str) -> str:
    mean, std = variant["mean"][column], variant["std"][column]
    if mean is not None and key in MILLIONS:
        return f"{mean / 1e6:.3f} M"
    return _number(mean) + ("" if std is None else f" ± {std:.2f}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _difference(difference: dict | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference['mean']:+.2f}"
    if difference["ci95"]:
        text += " [{:+.2f}, {:+.2f}]".format(*difference["ci95"])
    return text
