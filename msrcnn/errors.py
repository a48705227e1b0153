"""What ends a command with one line instead of a traceback: errors and interruptions."""

import signal


class UserError(ValueError):
    """Raised for wrong input by the user; the message says what is wrong and how to fix it."""


def first_of(items: list[str], number: int, separator: str = ", ") -> str:
    """Lists the first items for a message, and says how many more there are."""
    more = len(items) - number
    return separator.join([*items[:number], *([f"and {more} more"] if more > 0 else [])])


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or another signal that asks the process to end.

    Attributes:
        number: number of the signal.
        note: what the user should know, besides how to continue.
    """

    def __init__(self, number: int = signal.SIGINT, note: str = ""):
        self.number, self.note = number, note
