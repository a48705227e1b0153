"""All runs of a sweep, live."""

import datetime
import json
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .job import progress
from .plan import RESULT, Run
from .scheduler import State, Status

LINE_SECONDS = 60  # between two lines on running runs, where the output is no terminal
COLORS = {
    Status.WAITING: "dim",
    Status.RUNNING: "yellow",
    Status.DONE: "green",
    Status.FAILED: "red",
}


class Display:
    """A table that is redrawn on a terminal; elsewhere a line for whatever changes.

    Use as a context manager, and call it with the states of the runs.
    """

    def __init__(self, column: str, key: str, console: Console | None = None):
        """
        Args:
            column, key: what is shown of a finished run, as in a sweep's ``report``.
            console: where to write; standard output by default.
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
        if self._console.is_terminal:
            self._live.update(self._table(states), refresh=True)
        else:
            self._lines(states)

    def _table(self, states: list[State]) -> Table:
        table = Table("run", "", "step", "loss", "left", self._column, box=None, pad_edge=False)
        for state in states:
            cells = self._cells(state)
            style = COLORS[state.status]
            table.add_row(state.run.title, f"[{style}]{state.status.value}[/]", *cells)
        done = sum(state.status is Status.DONE for state in states)
        table.caption = f"{done} of {len(states)} done"
        return table

    def _cells(self, state: State) -> tuple[str, str, str, str]:
        """Step, loss, time left and result."""
        if state.status is Status.DONE:
            return "", "", "", result_text(state.run, self._key)
        if state.status is not Status.RUNNING:
            return "", "", "", ""
        return (*training_cells(state.run), "")

    def _lines(self, states: list[State]) -> None:
        for state in states:
            if self._seen.get(state.run.title) == state.status:
                continue
            self._seen[state.run.title] = state.status
            if state.status is Status.WAITING:
                continue
            result = ""
            if state.status is Status.DONE:
                done = sum(each.status is Status.DONE for each in states)
                result = (
                    f", {self._column} {result_text(state.run, self._key)}"
                    f" ({done} of {len(states)} done)"
                )
            self._print(f"{state.run.title}: {state.status.value}{result}")
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_SECONDS
            for state in states:
                if state.status is Status.RUNNING:
                    step, loss, left = training_cells(state.run)
                    training = f"step {step}, loss {loss}, {left} left" if loss else step
                    self._print(f"{state.run.title}: {training}")

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def training_cells(run: Run) -> tuple[str, str, str]:
    """Step, loss and time left of a run in training, as text."""
    if not run.trains:
        return "evaluation", "", ""
    record = progress(run.folder)
    if not record:
        return f"0/{run.steps}", "", ""
    step = record["iteration"] + 1
    if step >= run.steps:
        return "evaluation", "", ""
    left = datetime.timedelta(seconds=round(record.get("time", 0.0) * (run.steps - step)))
    return f"{step}/{run.steps}", f"{record['total_loss']:.4f}", str(left)


def result_text(run: Run, key: str) -> str:
    """A number of a finished run, as text."""
    task, _, metric = key.partition("/")
    try:
        evaluation = json.loads((run.folder / RESULT).read_text())["evaluation"]
        return f"{evaluation[task][metric]:.2f}"
    except (KeyError, TypeError):  # does not apply
        return "-"
    except (OSError, ValueError):  # the report will say so
        return "?"
