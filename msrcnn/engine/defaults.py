"""The common beginning of every tool: arguments, config, data, device, logging."""

import argparse
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from torch.multiprocessing import ProcessExitedException

from ..checkpoint import resolve_weights
from ..checkpoint.checkpoint_files import resumable_checkpoints
from ..config import CONFIG_ROOT, get_msrcnn_cfg
from ..data.custom import check_registered, use_data
from ..errors import UserError
from .config_checks import adopt_stock_parts, check_config
from .schedule import scale_schedule

logger = logging.getLogger(__name__)

TRUST_HELP = "load weights that are not plain data; this RUNS any code that the file holds"

# What yacs raises for a key or value that does not fit.
MERGE_ERRORS = (AssertionError, KeyError, TypeError, ValueError)
# What a person at the terminal wants of Detectron2's log; all of it goes to log.txt.
CONSOLE_LOGGERS = ("msrcnn", "detectron2.evaluation.evaluator")
# What Detectron2 says of loading, a line for each name; MaskScoringCheckpointer says it in one.
CHECKPOINT_LOGGERS = ("fvcore.common.checkpoint", "detectron2.checkpoint")


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Detectron2's arguments, own data in one flag, and trust in a file of weights."""
    parser = default_argument_parser()
    parser.description = description
    data = "COCO-format annotation file and image folder, joined by a colon"
    parser.add_argument("--train-data", metavar="ANN.json:IMAGES", help=f"train on this {data}")
    parser.add_argument("--val-data", metavar="ANN.json:IMAGES", help=f"evaluate on this {data}")
    # Not a config key: a config travels with the weights that it would trust.
    parser.add_argument(
        "--trust-weights",
        action="store_true",
        help=TRUST_HELP,
    )
    return parser


def find_config(config_file: str) -> Path:
    """The path of a config given as a path, or as a name below msrcnn's ``configs/``.

    Raises:
        UserError: if there is none.
    """
    for path in (Path(config_file), CONFIG_ROOT / config_file):
        if path.is_file():
            return path
    raise UserError(f"--config-file '{config_file}': no such file")


def load_config(path: Path, opts: list[str]) -> CfgNode:
    """Read a config and apply ``KEY VALUE`` overrides.

    Args:
        path: of the config file.
        opts: keys and values in turn.

    Raises:
        UserError: if a key or value does not fit.
    """
    cfg = get_msrcnn_cfg()
    try:
        # A config is data as well: Detectron2 would let YAML make any Python object.
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except (*MERGE_ERRORS, AttributeError, OSError, yaml.YAMLError) as error:
        raise UserError(f"config {path}: {_message(error)}") from error
    try:
        cfg.merge_from_list(opts)
    except MERGE_ERRORS as error:
        raise UserError(f"command line: {_message(error)}") from error
    return cfg


def _message(error: Exception) -> str:
    # A KeyError's own text is in quotes; an OSError's first argument is a number.
    return str(error.args[0]) if isinstance(error, KeyError) else str(error)


def complete_config(args: argparse.Namespace) -> CfgNode:
    """The config that a tool's arguments ask for, checked.

    Args:
        args: of :func:`argument_parser`; ``config_file`` becomes a path.

    Raises:
        UserError: for a mistake in the config, the data or the command line.
    """
    args.config_file = str(find_config(args.config_file))
    cfg = load_config(Path(args.config_file), args.opts)
    use_data(cfg, train=args.train_data, val=args.val_data)
    adopt_stock_parts(cfg)
    check_config(cfg)
    goes_on = args.resume and resumable_checkpoints(Path(cfg.OUTPUT_DIR))
    if cfg.MODEL.WEIGHTS and not goes_on:
        check_weights(cfg.MODEL.WEIGHTS)
    check_registered((*(() if args.eval_only else cfg.DATASETS.TRAIN), *cfg.DATASETS.TEST))
    return cfg


def setup(args: argparse.Namespace) -> CfgNode:
    """Make the config of a run and start its log.

    Args:
        args: of :func:`argument_parser`.

    Returns:
        The complete config, frozen; also written to ``OUTPUT_DIR/config.yaml``.

    Raises:
        UserError: for a mistake in the config, the data or the command line.
    """
    cfg = complete_config(args)
    _setup_logging(cfg.OUTPUT_DIR)
    silence_known_warnings()
    if args.train_data or args.val_data:
        logger.info(
            *("Own data: %d classes, masks as %s.", cfg.MODEL.ROI_HEADS.NUM_CLASSES),
            cfg.INPUT.MASK_FORMAT,
        )
    scale_schedule(cfg)
    use_available_device(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def check_weights(weights: str) -> None:
    try:
        resolve_weights(weights)
    except UserError as error:
        raise UserError(f"MODEL.WEIGHTS {error}") from error


def use_available_device(cfg: CfgNode) -> None:
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        cfg.SOLVER.AMP.ENABLED = False  # Detectron2's mixed precision is for CUDA
        logger.info("No GPU found: running on the CPU.")


def _setup_logging(output_dir: str) -> None:
    """Start Detectron2's loggers as ``default_setup`` will, then keep the terminal readable."""
    rank = comm.get_rank()
    if comm.is_main_process():
        Path(output_dir).mkdir(parents=True, exist_ok=True)
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    setup_logger(output_dir, distributed_rank=rank, name="msrcnn")
    for name in ("fvcore", "detectron2", "msrcnn"):
        for handler in logging.getLogger(name).handlers:
            if handler.stream is sys.stdout:  # log.txt is a stream handler too
                handler.addFilter(_for_console)


def silence_known_warnings() -> None:
    """Hush what every run would say and nobody can act on."""
    # Of Detectron2 v0.6, on current PyTorch and NumPy.
    warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release")
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    # Detectron2 asks PyTorch for its compilers when it lists the environment.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _for_console(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        return False  # it will be said in one line
    if record.name.startswith(CHECKPOINT_LOGGERS):
        return record.levelno >= logging.ERROR or record.funcName == "save"
    return record.levelno >= logging.WARNING or (
        record.name.startswith(CONSOLE_LOGGERS) and record.levelno >= logging.INFO
    )


def run_tool(main: Callable[[], object]) -> None:
    """Run a tool's main function; a user's mistake ends it with one line and exit status 1."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except ProcessExitedException:  # it has said why
        sys.exit(1)


def _in_process(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """One of several processes: a user's mistake ends it, and with it the others."""
    try:
        main(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # at once: the others may be waiting for it


def launch_processes(
    main: Callable[[argparse.Namespace], object], args: argparse.Namespace
) -> None:
    """Run on the processes and machines that the arguments ask for.

    Args:
        main: called in every process with the arguments.
        args: of :func:`argument_parser`.

    Raises:
        UserError: of ``main``, or if there are not as many GPUs.
        ProcessExitedException: if one of several processes has ended with an error.
    """
    processes = args.num_gpus * args.num_machines
    if processes > 1:
        complete_config(args)  # a mistake is better found here than in every process
    if args.num_gpus > 1 and args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus {args.num_gpus}, but this machine has {torch.cuda.device_count()}; "
            "with none, leave the flag out to run on the CPU"
        )
    launch(
        main if processes == 1 else functools.partial(_in_process, main),
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def launch_tool(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """:func:`run_tool` of :func:`launch_processes`."""
    run_tool(functools.partial(launch_processes, main, args))
