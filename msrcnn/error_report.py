"""How a process ends with an error: in one line, if the user can fix it."""

import os
import select
import signal
import sys
from collections.abc import Callable

from torch.multiprocessing import ProcessExitedException

from .errors import Interrupted, UserError
from .escaping import one_line


def report_errors(run: Callable[[], object], again: str = "") -> None:
    """Runs a function; a ``UserError`` ends the process with one line and exit status 1.

    Ctrl-C, or another signal that asks the process to end, also ends it with one line, and with
    exit status 128 plus the signal's number. If nobody reads the output any more, as after
    ``| head``, the process ends without a line.

    Args:
        run: the function.
        again: the command line that continues after an interruption.
    """
    try:
        run()
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + signal.SIGPIPE)
        if interruption := _interruption(error):
            _end_interrupted(interruption, again)
        if isinstance(error, UserError):
            print(f"error: {one_line(_without_traceback(str(error)))}", file=sys.stderr)
        elif not isinstance(error, ProcessExitedException):  # which has printed its own error
            raise
        sys.exit(1)


def _nobody_reads() -> bool:
    """Returns whether stdout is a pipe whose reader has ended; what is left then goes nowhere."""
    try:
        stdout = sys.stdout.fileno()
    except OSError:  # no file
        return False
    poll = select.poll()
    poll.register(stdout, 0)
    if not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stdout)  # Python flushes it once more at its end
    os.close(nowhere)
    return True


def _interruption(error: BaseException) -> Interrupted | None:
    """Returns the interruption that an error is, or that has caused it.

    A signal that is sent to all processes of a run also ends those that load data, which raises an
    error of its own in the main process.
    """
    if isinstance(error, ProcessExitedException):
        by_signal = error.exit_code in (-signal.SIGINT, -signal.SIGTERM)
        return Interrupted(-error.exit_code) if by_signal else None
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, KeyboardInterrupt):
        chain = chain.__context__
    return chain if chain is None or isinstance(chain, Interrupted) else Interrupted()


def _end_interrupted(error: Interrupted, again: str) -> None:
    parts = ["interrupted", error.note, again and f"continue with: {again}"]
    start = "\n" if sys.stderr.isatty() else ""  # after a line of progress
    print(start + "; ".join(filter(None, parts)), file=sys.stderr)
    sys.exit(128 + error.number)


def _without_traceback(message: str) -> str:
    """Returns the message of an error that a worker of a data loader raised."""
    return message.rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()
