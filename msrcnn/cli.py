"""The ``msrcnn`` command."""

import argparse
import importlib
import os
import select
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch.multiprocessing import ProcessExitedException

from .errors import Interrupted, UserError
from .escaping import one_line
from .version import __version__

# Modules of msrcnn.commands, imported only when needed.
COMMANDS = {
    "train": "train a model from a config, then evaluate it",
    "eval": "evaluate weights, or saved predictions",
    "fit-scores": "add mask scores to a trained detector",
    "predict": "detect objects in images and draw them",
    "export": "export a trained model",
    "convert": "convert another library's checkpoint",
    "ablate": "train and compare the variants of a sweep",
    "compare": "compare finished runs with published results",
    "check": "check a COCO-format dataset",
    "benchmark": "measure what the model and its parts cost",
    "draw": "draw ground truth beside saved predictions",
    "doctor": "print what a bug report needs",
    "record": "record an evaluation with its command and hardware",
}


def main(command: str | None = None) -> None:
    """Runs a command with the arguments of the process.

    Args:
        command: one of ``COMMANDS``; by default the first argument of the process.
    """
    program, arguments = f"tools/{Path(sys.argv[0]).name}", sys.argv[1:]
    own, start = ["msrcnn"], [Path(sys.executable).name, sys.argv[0]]
    if command is None:
        if not arguments or arguments[0] not in COMMANDS:
            _top_parser().parse_args(arguments)
            return
        command, arguments = arguments[0], arguments[1:]
        program = f"msrcnn {command}"
        if Path(sys.argv[0]).name != "msrcnn":
            own = start  # a program that registers parts of its own
        start = [*own, command]
    module = _module(command)
    args = command_parser(command, program).parse_args(arguments)
    args.command_line = f"{program} {shlex.join(arguments)}"
    args.program = own
    # A training continues from its last checkpoint, and predictions after their last image; all
    # others find what they left on disk.
    once = getattr(args, "eval_only", False) or getattr(args, "replay", False)
    resume = getattr(args, "resume", None) is False and not once
    again = shlex.join([*start, *(["--resume"] if resume else []), *arguments])
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    report_errors(lambda: module.run(args), again)


def _interrupt(number: int, _: object) -> None:
    raise Interrupted(number)


def command_parser(command: str, program: str) -> argparse.ArgumentParser:
    """Returns the parser of a command's arguments.

    Args:
        command: one of ``COMMANDS``.
        program: how the command was called, for usage messages.
    """
    module = _module(command)
    parser = argparse.ArgumentParser(prog=program, description=module.__doc__)
    module.add_arguments(parser)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f".commands.{command.replace('-', '_')}", __package__)


def _top_parser() -> argparse.ArgumentParser:
    """Returns the parser that prints the list of commands, or says that a command is unknown."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{text}" for name, text in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="msrcnn",
        usage="msrcnn [-h] [--version] COMMAND ...",
        description="Mask Scoring R-CNN on Detectron2.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(
            ["commands:", *lines, "", "'msrcnn COMMAND -h' shows the arguments of a command."]
        ),
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="see below")
    return parser


def report_errors(run: Callable[[], object], again: str = "") -> None:
    """Runs a function; a ``UserError`` ends the process with one line and exit status 1.

    So does Ctrl-C or another signal that asks it to end, with 128 and the signal's number. If
    nobody reads the output any more, as after ``| head``, the process ends without a line.

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
