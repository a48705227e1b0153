"""A sweep's results as tables: for a reader, and for a spreadsheet."""

import csv
import io

from tabulate import tabulate

UNITS = {"cost/parameters": (1e6, " M"), "cost/multiply_adds": (1e6, " M")}


def table(results: dict, tablefmt: str = "simple") -> str:
    """A row for each variant, as the paper's tables have them.

    Args:
        results: of :func:`~.results.collect`.
        tablefmt: of tabulate.

    Returns:
        Columns of the sweep (mean and standard deviation over seeds), the difference of the first
        from the baseline with its 95% interval, and the published numbers.
    """
    columns = results["columns"]
    first = next(iter(columns))
    variants = results["variants"]
    published = [
        column for column in columns if any(column in v["published"] for v in variants.values())
    ]
    headers = ["", *columns, f"{first} over {variants[results['baseline']]['label']}"]
    headers += [f"published {column}" for column in published]
    rows = []
    for variant in variants.values():
        cells = [_text(variant, column, key) for column, key in columns.items()]
        numbers = [variant["published"].get(column) for column in published]
        rows.append(
            [
                variant["label"] + _incomplete(variant, results),
                *cells,
                _difference(variant["difference"]),
                *("-" if number is None else f"{number}" for number in numbers),
            ]
        )
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def notes(results: dict) -> list[str]:
    """What must stand below the table, each a sentence or two."""
    lines = [results["protocol"]["description"]]
    if any(variant["published"] for variant in results["variants"].values()):
        source = f"Published: {results['published_source']}."
        if not results["comparable"]:
            source += " Of other data or training than this protocol's: not to be compared with it."
        lines.append(source)
    detector = results["detector"]
    if detector:
        box, mask, best = (
            _number(detector[task] and detector[task]["AP"])
            for task in ("bbox", "segm_box_score", "segm_oracle")
        )
        lines.append(
            f"All share box AP {box} and mask AP {mask} by box score; by true MaskIoU their masks "
            f"would reach {best}."
        )
    over = {v["difference"]["over"] for v in results["variants"].values() if v["difference"]}
    if "seeds" in over:
        lines.append(
            "Mean ± standard deviation over seeds; in brackets the 95% interval of the difference "
            "between runs of the same seed (Student's t)."
        )
    if "images" in over:
        lines.append("In brackets the 95% interval by paired bootstrap over images.")
    elif None in over and len(results["protocol"]["seeds"]) == 1:
        lines.append(
            "Without interval: for one seed there is one of the AP by mask score, and it needs the "
            "runs' inference/predictions.npz."
        )
    if results["missing"]:
        lines.append(f"Not finished: {', '.join(results['missing'])}.")
    return lines


def markdown(results: dict) -> str:
    """Title, table and notes."""
    text = "\n\n".join(notes(results))
    return f"### {heading(results)}\n\n{table(results, 'pipe')}\n\n{text}\n"


def heading(results: dict) -> str:
    """The title with the protocol that the numbers are of."""
    return f"{results['title']} ({results['protocol']['label']})"


def as_csv(results: dict) -> str:
    """A line for each run, and for each variant with its mean, deviation and published numbers.

    In the column ``seed`` stands what a line is of: a seed, ``mean``, ``std`` or ``published``.
    The difference from the baseline with its interval is in the line of the mean.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns, protocol = results["columns"], results["protocol"]
    known = ("protocol", "head_only", "variant", "label", "seed", *columns)
    writer.writerow([*known, *("difference", "ci95_low", "ci95_high", "steps")])
    for name, variant in results["variants"].items():
        start = [protocol["name"], protocol["head_only"], name, variant["label"]]
        for run in variant["runs"]:
            cells = _cells(run["values"], columns)
            writer.writerow([*start, run["seed"], *cells, "", "", "", run["steps"]])
        difference = variant["difference"] or {"mean": "", "ci95": None}
        interval = difference["ci95"] or ["", ""]
        for kind in ("mean", "std", "published"):
            if all(number is None for number in variant[kind].values()):
                continue
            extra = [difference["mean"], *interval] if kind == "mean" else ["", "", ""]
            writer.writerow([*start, kind, *_cells(variant[kind], columns), *extra, ""])
    return text.getvalue()


def _cells(values: dict[str, float | None], columns: dict[str, str]) -> list:
    return ["" if values.get(column) is None else values[column] for column in columns]


def _text(variant: dict, column: str, key: str) -> str:
    mean, std = variant["mean"][column], variant["std"][column]
    if mean is None:
        return "-"
    if key in UNITS:
        size, unit = UNITS[key]
        return f"{mean / size:.3f}{unit}"
    return _number(mean) + ("" if std is None else f" ± {std:.2f}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _difference(difference: dict | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference['mean']:+.2f}"
    if difference["ci95"] is not None:
        text += " [{:+.2f}, {:+.2f}]".format(*difference["ci95"])
    return text


def _incomplete(variant: dict, results: dict) -> str:
    done, asked = len(variant["runs"]), len(results["protocol"]["seeds"])
    return "" if done == asked else f" ({done} of {asked} seeds)"
