"""Writes the result files of a sweep."""

from pathlib import Path

from ..atomic_file import write_file
from ..engine.result_records import write_result
from ..errors import UserError
from ..escaping import printable
from ..scores.fit_scores import CACHE
from ..visualization.ablation_plot import FIGURES, draw_sweep
from ..visualization.plot_style import to_png
from .collect import collect
from .plan import Plan
from .tables import as_csv, heading, markdown, notes, table


def write_outputs(plan: Plan, output_dir: Path, command: str) -> str:
    """Writes ``results.json``, ``table.md``, ``results.csv`` and the plots of the finished runs.

    Args:
        plan: the plan of a sweep.
        output_dir: created if missing.
        command: command line of the sweep, for the record.

    Returns:
        Title, table and notes, for a terminal.

    Raises:
        UserError: if no run is finished; files of another protocol are then not replaced.
    """
    if not any(run.finished for run in plan.runs):
        raise UserError(
            f"no run of this protocol is finished in '{plan.runs_dir}'; were --quick, --protocol "
            "or --head-only different?"
        )
    results = collect(plan)
    write_result(output_dir / "results.json", command, **results)
    write_file(output_dir / "table.md", markdown(results))
    write_file(output_dir / "results.csv", as_csv(results))
    for name in FIGURES:  # remove plots of another protocol
        (output_dir / f"{name}.png").unlink(missing_ok=True)
    for name, figure in draw_sweep(results).items():
        write_file(output_dir / f"{name}.png", to_png(figure))
    lines = map(printable, (heading(results), *notes(results)))
    return "\n\n".join([next(lines), table(results), *lines])


def samples_note(plan: Plan) -> str:
    """Returns where the samples of fits are and how large, for a terminal; empty without any."""
    folders = {detector.folder / CACHE for detector in plan.detectors.values()}
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    if not files:
        return ""
    size = sum(path.stat().st_size for path in files)
    return (
        f"Samples for fits, {size / 2**30:.2f} GB, are in {', '.join(map(str, sorted(folders)))}. "
        "They can be deleted; another fit would collect them again."
    )
