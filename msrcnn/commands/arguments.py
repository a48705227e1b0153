"""Command-line arguments that several commands share; their names are Detectron2's."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..data.datasets import datasets_root
from ..engine import Processes
from ..errors import UserError

# The config keys that these flags set.
DATA_KEYS = {"--train-data": ("DATASETS.TRAIN",), "--val-data": ("DATASETS.TEST",)}
MODEL_KEYS = {"--weights": ("MODEL.WEIGHTS",), "--output-dir": ("OUTPUT_DIR",)}
DATA = (
    "COCO-format annotation file and image folder, separated by a colon; may be given several times"
)
TRUST_HELP = "load weights that are not plain data; this RUNS any code that the file contains"
# For commands that need a trained model; see engine.find_model.
WEIGHTS_HELP = "checkpoint of the model, folder with one, or model of Detectron2's zoo"


def add_config(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds ``--config-file``."""
    default = "" if required else " (default: W.yaml or config.yaml beside W.pth)"
    parser.add_argument(
        "--config-file",
        metavar="F",
        default="",
        required=required,
        help=f"config file, or its name below msrcnn's configs/{default}",
    )


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds ``KEY VALUE ...``, which must come last."""
    parser.add_argument(
        "opts",
        metavar="KEY VALUE",
        nargs=argparse.REMAINDER,
        help="override config keys; must come after all other arguments",
    )


def add_train_data(parser: argparse.ArgumentParser) -> None:
    """Adds ``--train-data``."""
    _add_data(parser, "--train-data", "train on")


def add_val_data(parser: argparse.ArgumentParser) -> None:
    """Adds ``--val-data``."""
    _add_data(parser, "--val-data", "evaluate on")


def _add_data(parser: argparse.ArgumentParser, flag: str, use: str) -> None:
    parser.add_argument(
        flag, metavar="ANN.json:IMAGES", action="append", default=[], help=f"{use} this {DATA}"
    )


def check_given_once(args: argparse.Namespace, keys: Mapping[str, Sequence[str]]) -> None:
    """Rejects ``KEY VALUE`` of a config key that a flag sets.

    Args:
        args: the arguments of a command with :func:`add_overrides`.
        keys: config keys by the flag that sets them.

    Raises:
        UserError: naming the flag and the key.
    """
    given = args.opts[::2]
    for flag, set_by_flag in keys.items():
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        twice = [key for key in set_by_flag if key in given]
        if value not in (None, []) and twice:
            text = " ".join([flag, *(value if isinstance(value, list) else [str(value)])])
            raise UserError(f"{text} sets {twice[0]}, which is also given: choose one")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds ``--trust-weights``.

    It is not a config key, because a config file travels with the weights that it would trust.
    """
    parser.add_argument("--trust-weights", action="store_true", help=TRUST_HELP)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of :func:`processes`."""
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs per machine")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines")
    parser.add_argument(
        "--machine-rank", type=int, default=0, metavar="N", help="rank of this machine, from 0"
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="tcp://HOST:PORT of the first machine; 'auto' (default) for one machine",
    )


def add_slurm(parser: argparse.ArgumentParser, use: str) -> None:
    """Adds ``--slurm``."""
    parser.add_argument(
        "--slurm",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help=f"{use} with this option of sbatch, e.g. partition=P, account=A, qos=Q, mem=64G; may "
        "be given several times. time=MINUTES (default: a day) is the limit after which a job is "
        "put back into the queue and resumes",
    )


def processes(args: argparse.Namespace) -> Processes:
    """Returns the processes that the arguments ask for."""
    return Processes(args.num_gpus, args.num_machines, args.machine_rank, args.dist_url)


def add_dataset_folder(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds ``--output`` of a script that writes a dataset which the configs name."""
    parser.add_argument(
        "--output",
        type=Path,
        default=datasets_root() / name,
        help=f"target directory (default: {name}/ in $DETECTRON2_DATASETS, or datasets/{name})",
    )


def at_least(low: int) -> Callable[[str], int]:
    """Returns an argument type: a whole number that is not below ``low``."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from {low}")
        return int(text)

    return number


def not_negative(text: str) -> float:
    """An argument type: a finite number that is not negative."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0")
    return number


def positive(text: str) -> float:
    """An argument type: a finite number above 0."""
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError(f"'{text}' is not above 0")
    return number
