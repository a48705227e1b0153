"""Shows the runs of a sweep while it is running."""

import datetime
import json
import time

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from ..escaping import printable
from .job import fit_phase, progress
from .plan import RESULT, Run
from .scheduler import State, Status

LINE_SECONDS = 60  # between two lines about a running run, if the output is not a terminal
COLORS = dict(zip(Status, ("dim", "yellow", "green", "red")))


class Display:
    """A live table on a terminal; elsewhere a line per change.

    Use as a context manager, and call it with the states of the runs.
    """

    def __init__(self, column: str, key: str, console: Console | None = None):
        """
        Args:
            column, key: the number to show for a finished run, as in a sweep's ``report``.
            console: where to print; standard output by default.
        """
        self._column, self._key = column, key
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False)
        self._seen: dict[str, Status] = {}
        self._next_line = time.monotonic() + LINE_SECONDS

    def __enter__(self) -> "Display":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        self._live.stop()

    def __call__(self, states: list[State]) -> None:
        done = sum(state.status is Status.DONE for state in states)
        if self._console.is_terminal:
            self._live.update(self._table(states, f"{done} of {len(states)} done"), refresh=True)
            return
        for state in states:
            old = self._seen.get(state.run.title, Status.WAITING)
            self._seen[state.run.title] = state.status
            if state.status is not old:
                result = f", {self._column} {result_text(state.run, self._key)}"
                result += f" ({done} of {len(states)} done)"
                self._print(state, state.status.value + result * (state.status is Status.DONE))
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            for state in states:
                if state.status is Status.RUNNING:
                    step, loss, left = training_cells(state.run)
                    self._print(state, f"step {step}, loss {loss}, {left} left" if loss else step)

    def _print(self, state: State, text: str) -> None:
        line = printable(f"{state.run.title}: {text}")
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _table(self, states: list[State], caption: str) -> Table:
        column = escape(printable(self._column))
        table = Table("run", "", "step", "loss", "left", column, box=None, pad_edge=False)
        table.caption = caption
        for state in states:
            cells = ["", "", "", ""]
            if state.status is Status.RUNNING:
                cells[:3] = training_cells(state.run)
            elif state.status is Status.DONE:
                cells[3] = result_text(state.run, self._key)
            status = f"[{COLORS[state.status]}]{state.status.value}[/]"
            table.add_row(escape(printable(state.run.title)), status, *cells)
        return table


def training_cells(run: Run) -> tuple[str, str, str]:
    """Returns step, loss and time left of a running run, as text; of a fit only what it does."""
    if run.fits:
        return fit_phase(run), "", ""
    record = progress(run)
    step = record.get("iteration", -1) + 1
    if step >= run.steps:
        return "evaluation", "", ""
    if not record:
        return f"0/{run.steps}", "", ""
    left = datetime.timedelta(seconds=round(record.get("time", 0.0) * (run.steps - step)))
    return f"{step}/{run.steps}", f"{record['total_loss']:.4f}", str(left)


def result_text(run: Run, key: str) -> str:
    """Returns a number of a finished run as text; ``-`` if it does not apply, ``?`` if damaged."""
    task, _, metric = key.partition("/")
    try:
        evaluation = json.loads((run.folder / RESULT).read_text())["evaluation"]
        return f"{evaluation[task][metric]:.2f}"
    except (KeyError, TypeError):
        return "-"
    except (OSError, ValueError):
        return "?"
