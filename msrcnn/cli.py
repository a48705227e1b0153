"""The ``msrcnn`` command."""

import argparse
import importlib
import re
import shlex
import signal
import sys
from pathlib import Path
from types import ModuleType

from .error_report import report_errors
from .errors import Interrupted
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
# What a shell replaces only outside of quotes, and not after the = of --output=~/drawn.
HOME = re.compile(r"^(--[\w-]+=)?~(?=/)")


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
    words = [HOME.sub(lambda m: f"{m[1] or ''}{Path.home()}", word) for word in arguments]
    args = command_parser(command, program).parse_args(words)
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
