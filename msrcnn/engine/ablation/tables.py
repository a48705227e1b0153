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
                *("-" if number is None else f"{number:g}" for number in numbers),
            ]
        )
    alignment = ("left", *("right" for _ in headers[1:]))
    return tabulate(rows, headers, tablefmt=tablefmt, disable_numparse=True, colalign=alignment)


def notes(results: dict) -> list[str]:
    """What must stand below the table, each a sentence or two."""
    lines = [results["protocol"]["description"]]
    if any(variant["published"] for variant in results["variants"].values()):
        source = f"Published: {results['published_source']}."
        if results["protocol"]["name"] != "full" or results["protocol"]["head_only"]:
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
    elif "images" in over:
        lines.append("In brackets the 95% interval by paired bootstrap over images.")
    if results["missing"]:
        lines.append(f"Not finished: {', '.join(results['missing'])}.")
    return lines


def markdown(results: dict) -> str:
    """Title, table and notes."""
    text = "\n\n".join(notes(results))
    return f"### {results['title']}\n\n{table(results, 'pipe')}\n\n{text}\n"


def as_csv(results: dict) -> str:
    """A line for each run."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["variant", "label", "seed", *results["columns"], "steps", "seconds_per_step"])
    for name, variant in results["variants"].items():
        for run in variant["runs"]:
            values = (run["values"][column] for column in results["columns"])
            writer.writerow(
                [name, variant["label"], run["seed"]]
                + ["" if value is None else value for value in values]
                + [run["steps"], run["seconds_per_step"] or ""]
            )
    return text.getvalue()


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
