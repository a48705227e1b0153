"""Train and evaluate every variant of a sweep, and print its table."""

import argparse
import sys
from pathlib import Path

from ..ablation import Plan, load_sweep, make_plan, run_all, samples_note, write_outputs
from ..ablation.display import Display
from ..ablation.estimate import estimate
from ..ablation.launcher import Launcher
from ..ablation.local_jobs import LocalLauncher
from ..ablation.scheduler import State, Status
from ..ablation.slurm_launcher import SlurmLauncher
from ..engine.run_log import silence_known_warnings
from ..errors import UserError
from .arguments import add_overrides, add_slurm, add_train_data, add_val_data, at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sweep", required=True, metavar="F", help="configs/ablations/NAME.yaml")
    parser.add_argument("--output-dir", required=True, type=Path, metavar="D", help="output folder")
    parser.add_argument("--quick", action="store_true", help="use the first quick protocol")
    parser.add_argument("--protocol", metavar="P", help="quick protocol of the sweep file by name")
    parser.add_argument(
        "--variants",
        type=_names,
        metavar="A,B",
        help="run only these variants; tables show all that are finished (default: all)",
    )
    parser.add_argument(
        "--head-only",
        action="store_true",
        help="train or fit only MaskIoU heads, on trained Mask R-CNNs",
    )
    parser.add_argument(
        "--runs-dir", type=Path, metavar="R", help="share runs between sweeps (default: D/runs)"
    )
    add_train_data(parser)
    add_val_data(parser)
    parser.add_argument("--launcher", choices=["local", "slurm"], default="local")
    parser.add_argument(
        "--gpus", type=at_least(0), metavar="N", help="GPUs per run (default: 1 if available)"
    )
    parser.add_argument("--slots", type=at_least(1), metavar="N", help="local: concurrent runs")
    add_slurm(parser, "submit jobs")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="print the runs and their time")
    instead.add_argument("--report-only", action="store_true", help="rebuild tables and plots")
    add_overrides(parser)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def run(args: argparse.Namespace) -> None:
    silence_known_warnings()
    sweep = load_sweep(args.sweep)
    plan = make_plan(
        sweep,
        sweep.choose_protocol(args.protocol, quick=args.quick),
        (args.runs_dir or args.output_dir / "runs").resolve(),
        head_only=args.head_only,
        train_data=args.train_data,
        val_data=args.val_data,
        opts=args.opts,
    )
    wanted = plan.part(args.variants) if args.variants else plan
    # The record names the command that produced the results, also if tables are rebuilt later.
    command = args.command_line.replace(" --report-only", "")
    if args.report_only:
        print(write_outputs(plan, args.output_dir, command))
        return
    launcher = _launcher(args)
    if args.dry_run:
        print(estimate(wanted, places=launcher.places, num_gpus=launcher.num_gpus))
        return
    states = _run(wanted, launcher, command)
    if any(run.finished for run in plan.runs):
        print(f"\n{write_outputs(plan, args.output_dir, command)}\n\nResults in {args.output_dir}")
    if note := samples_note(plan):
        print(note)
    _raise_failures(states)


def _launcher(args: argparse.Namespace) -> Launcher:
    if args.launcher == "slurm":
        if args.slots:
            raise UserError("--slots is for --launcher local; Slurm decides what runs when")
        gpus = 1 if args.gpus is None else args.gpus
        return SlurmLauncher(gpus=gpus, options=args.slurm)
    if args.slurm:
        raise UserError("--slurm is for --launcher slurm")
    return LocalLauncher(gpus=args.gpus, slots=args.slots)


def _run(plan: Plan, launcher: Launcher, command: str) -> list[State]:
    column, key = next(iter(plan.sweep.report.items()))
    with Display(column, key) as display:
        return run_all(plan, launcher, display, command)


def _raise_failures(states: list[State]) -> None:
    failed = [state for state in states if state.status is Status.FAILED]
    for state in failed:
        print(f"\n{state.run.title} has failed; {state.reason}", file=sys.stderr)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(states)} runs failed; run the same command again to retry"
        )
