"""Loggers of a run: everything goes to ``log.txt``, only what a user needs to the terminal."""

import logging
import sys
import warnings
from pathlib import Path

from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..errors import UserError
from ..escaping import printable_log

# Loggers whose INFO messages the terminal shows.
CONSOLE_LOGGERS = ("msrcnn", "detectron2.evaluation.evaluator")
# Detectron2 logs a line per parameter when it loads weights; MaskScoringCheckpointer logs one
# summary instead.
CHECKPOINT_LOGGERS = ("fvcore.common.checkpoint", "detectron2.checkpoint")


def start_log(output_dir: str) -> None:
    """Sets up Detectron2's loggers like ``default_setup``, with a terminal that stays readable.

    Args:
        output_dir: created if missing; receives ``log.txt``.

    Raises:
        UserError: if it cannot be written to.
    """
    rank = comm.get_rank()
    if comm.is_main_process():
        _create(Path(output_dir))
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    setup_logger(output_dir, distributed_rank=rank, name="msrcnn")
    for name in ("fvcore", "detectron2", "msrcnn"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_escape)
            if getattr(handler, "stream", None) is sys.stdout:  # log.txt has a stream too
                handler.addFilter(_for_console)
    silence_known_warnings()


def _create(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").open("a").close()
    except OSError as error:
        raise UserError(
            f"cannot write to OUTPUT_DIR '{folder}': {error.strerror}; choose another"
        ) from error


def start_console_log() -> None:
    """Sets up the logger of a command that keeps no log file."""
    for handler in setup_logger(name="msrcnn").handlers:
        handler.addFilter(_escape)
        handler.addFilter(_for_console)


def silence_known_warnings() -> None:
    """Suppresses warnings that every run would print and no user can act on."""
    # From Detectron2 v0.6 on current PyTorch and NumPy.
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    # Detectron2 asks PyTorch for its compilers when it lists the environment.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _escape(record: logging.LogRecord) -> bool:
    record.msg, record.args = printable_log(record.getMessage()), None
    return True


def _for_console(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        return False  # the command prints it as one line
    if record.name.startswith(CHECKPOINT_LOGGERS):
        return record.levelno >= logging.ERROR or record.funcName == "save"
    return record.levelno >= logging.WARNING or (
        record.name.startswith(CONSOLE_LOGGERS) and record.levelno >= logging.INFO
    )
