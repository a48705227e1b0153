"""The results of a sweep as tables: text, Markdown and CSV."""

import csv
import io

from tabulate import tabulate

from ..evaluation.bootstrap import MIN_IMAGES

MILLIONS = ("cost/parameters", "cost/multiply_adds")


def table(results: dict, tablefmt: str = "simple") -> str:
    """Returns a table with a row per variant, like those of the paper.

    Args:
        results: see :func:`~.collect.collect`.
        tablefmt: a format of tabulate.

    Returns:
        The columns of the sweep (mean and standard deviation over seeds), the difference of the
        first column from the baseline with its 95% interval, and the published numbers.
    """
    columns, variants = results["columns"], results["variants"]
    published = [c for c in columns if any(c in v["published"] for v in variants.values())]
    headers = ["", *columns]
    headers.append(f"{next(iter(columns))} over {variants[results['baseline']]['label']}")
    headers += [f"published {column}" for column in published]
    rows = []
    for variant in variants.values():
        done, seeds = len(variant["runs"]), len(results["protocol"]["seeds"])
        rows.append(
            [
                variant["label"] + ("" if done == seeds else f" ({done} of {seeds} seeds)"),
                *(_cell(variant, column, key) for column, key in columns.items()),
                _difference(variant["difference"]),
                *(str(variant["published"].get(column, "-")) for column in published),
            ]
        )
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def notes(results: dict) -> list[str]:
    """Returns the notes below the table."""
    protocol, variants = results["protocol"], results["variants"].values()
    lines = [protocol["description"]]
    if any(variant["published"] for variant in variants):
        source = f"Published numbers: {results['published_source']}."
        if not results["comparable"]:
            source += " They are for other data or training and cannot be compared with this table."
        lines.append(source)
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
    if results["missing"]:
        lines.append(f"Not finished: {', '.join(results['missing'])}.")
    return lines


def markdown(results: dict) -> str:
    """Returns title, table and notes in Markdown."""
    return "\n\n".join([f"### {heading(results)}", table(results, "pipe"), *notes(results)]) + "\n"


def heading(results: dict) -> str:
    """Returns the title and the protocol."""
    return f"{results['title']} ({results['protocol']['label']})"


def as_csv(results: dict) -> str:
    """Returns a CSV table with a line per run, and per variant its mean, std and published numbers.

    The column ``seed`` contains the seed, or ``mean``, ``std`` or ``published``. The difference
    from the baseline and its interval are in the line of the mean.
    """
    protocol, columns = results["protocol"], results["columns"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("protocol", "head_only", "variant", "label", "seed", *columns)
    writer.writerow([*names, "difference", "ci95_low", "ci95_high", "steps"])
    for name, variant in results["variants"].items():
        start = [protocol["name"], protocol["head_only"], name, variant["label"]]
        nothing = [None, None, None]
        for run in variant["runs"]:
            values = map(run["values"].get, columns)
            writer.writerow([*start, run["seed"], *values, *nothing, run["steps"]])
        difference = nothing
        if variant["difference"]:
            interval = variant["difference"]["ci95"] or [None, None]
            difference = [variant["difference"]["mean"], *interval]
        for kind, extra in (("mean", difference), ("std", nothing), ("published", nothing)):
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
