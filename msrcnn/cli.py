"""The ``msrcnn`` command."""

import argparse
import importlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch.multiprocessing import ProcessExitedException

from .errors import UserError
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
    "record": "record an evaluation with its command and hardware",
}


def main(command: str | None = None) -> None:
    """Runs a command with the arguments of the process.

    Args:
        command: one of ``COMMANDS``; by default the first argument of the process.
    """
    program, arguments = f"tools/{Path(sys.argv[0]).name}", sys.argv[1:]
    if command is None:
        if not arguments or arguments[0] not in COMMANDS:
            _top_parser().parse_args(arguments)
            return
        command, arguments = arguments[0], arguments[1:]
        program = f"msrcnn {command}"
    module = _module(command)
    args = command_parser(command, program).parse_args(arguments)
    args.command_line = f"{program} {shlex.join(arguments)}"
    report_errors(lambda: module.run(args))


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


def report_errors(run: Callable[[], object]) -> None:
    """Runs a function; a ``UserError`` ends the process with one line and exit status 1."""
    try:
        run()
    except UserError as error:
        print(f"error: {_without_traceback(str(error))}", file=sys.stderr)
        sys.exit(1)
    except ProcessExitedException:  # the process has printed its own error
        sys.exit(1)


def _without_traceback(message: str) -> str:
    """Returns the message of an error that a worker of a data loader raised."""
    return message.rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()
