"""The job of a run, in a process of its own, wherever a launcher starts it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from filelock import FileLock

from ..atomic_file import write_file
from ..checkpoint.checkpoint_files import FIT_RECORD
from ..engine import Processes, launch_processes, prepare_config, run, start_run
from ..engine.result_records import record_result
from ..engine.training_log import LOG, read_training_log
from ..evaluation.result_files import EVALUATION
from ..scores import ScoreFit
from ..scores.sample_cache import is_complete
from ..scores.train_and_fit import detector_weights
from .plan import RESULT, Run

CONFIG = "run.yaml"  # the planned config; Detectron2 writes the config of the run to config.yaml
LOG_END = 8192  # bytes at the end of a training log that contain its last line


@dataclass(frozen=True)
class RunJob:
    """Trains or fits a run and evaluates it, until ``result.json`` is in its folder.

    A training resumes from its last checkpoint, and a pass that collects samples with the first
    part that is missing. A fit starts again, with the same result.

    Attributes:
        run: a run whose folder exists, see :func:`create_folder`.
        train_data, val_data: custom data, each as ``ANN.json:IMAGES``.
        num_gpus: number of processes, each on a GPU; 0 for the CPU.
        threads: PyTorch threads; ``None`` for PyTorch's default.
        command: command line of the sweep, for the record.
    """

    run: Run
    train_data: Sequence[str]
    val_data: Sequence[str]
    num_gpus: int
    threads: int | None
    command: str

    def __call__(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        folder = self.run.folder
        # If a sweep was killed, its job may still be running: wait for it.
        with FileLock(folder / ".lock"):
            if self.run.finished:
                return
            (self._fit if self.run.fits else self._train)()
            record_result(folder / EVALUATION, self.command, folder / RESULT)

    def _train(self) -> None:
        trains = self.run.trains
        cfg = self._config(resume=trains)
        config_file = str(self.run.folder / CONFIG)
        self._launch(
            partial(run, cfg, config_file=config_file, resume=trains, eval_only=not trains)
        )

    def _fit(self) -> None:
        cfg, samples = self._config(), self.run.samples
        (self.run.folder / FIT_RECORD).unlink(missing_ok=True)  # of a job that was killed
        samples.parent.mkdir(exist_ok=True)
        # One run collects the samples; the others wait for it.
        with FileLock(f"{samples}.lock"):
            if not is_complete(samples):
                self._launch(partial(_collect, cfg, samples))
        self._launch(partial(_fit_and_evaluate, cfg, samples))

    def _config(self, *, resume: bool = False) -> CfgNode:
        opts = ["OUTPUT_DIR", str(self.run.folder)]
        if start := self.run.start:
            opts += ["MODEL.WEIGHTS", str(detector_weights(start.folder, start.cfg))]
        return prepare_config(
            self.run.folder / CONFIG,
            opts,
            train_data=self.train_data,
            val_data=self.val_data,
            splits=("TRAIN", "TEST") if self.run.trains else ("TEST",),
            resume=resume,
        )

    def _launch(self, main: Callable[[], object]) -> None:
        launch_processes(main, Processes(self.num_gpus))


def _collect(cfg: CfgNode, samples: Path) -> None:
    ScoreFit(start_run(cfg, eval_only=True), samples).collect()


def _fit_and_evaluate(cfg: CfgNode, samples: Path) -> None:
    scores = ScoreFit(start_run(cfg, eval_only=True), samples)
    scores.fit()
    scores.evaluate()


def create_folder(run: Run) -> None:
    """Creates a run's folder with the config of the run."""
    run.runs_dir.mkdir(parents=True, exist_ok=True)
    # Another sweep may be creating the folder of the same run under another name.
    with FileLock(run.runs_dir / ".lock"):
        run.folder.mkdir(exist_ok=True)
    write_file(run.folder / CONFIG, run.cfg.dump())


def progress(run: Run) -> dict:
    """Returns the last line of a run's training log, with ``iteration``, ``total_loss``, ``time``.

    Empty if there is none, as for a fit.
    """
    try:
        steps = read_training_log(run.folder / LOG, last_bytes=LOG_END)
    except OSError:  # on a network disk: try again later
        return {}
    return steps[-1] if steps else {}


def fit_phase(run: Run) -> str:
    """Returns what a running fit does, by what it has left on disk."""
    if (run.folder / FIT_RECORD).is_file():
        return "evaluation"
    return "fit" if is_complete(run.samples) else "samples"
