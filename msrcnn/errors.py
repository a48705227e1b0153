"""What ends a command with one line instead of a traceback: errors and interruptions."""

import signal


class UserError(ValueError):
    """Raised for wrong input by the user; the message says what is wrong and how to fix it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or another signal that asks the process to end.

    Attributes:
        number: of the signal.
        note: what the user should know, besides how to continue.
    """

    def __init__(self, number: int = signal.SIGINT, note: str = ""):
        self.number, self.note = number, note
