"""Detectron2's trainer with our data loader and evaluator, and exact resume."""

import errno
import logging
import weakref
from collections import OrderedDict
from pathlib import Path

import numpy as np
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase
from detectron2.engine.hooks import EvalHook, PeriodicCheckpointer, PeriodicWriter, PreciseBN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from ..atomic_file import remove_parts
from ..checkpoint import MaskScoringCheckpointer
from ..config_by_key import changed
from ..data import MaskScoringDatasetMapper, TrainLoader
from ..data.mapper import ImageMapper, NamedErrors
from ..data.registered import check_data
from ..errors import UserError
from ..evaluation import MaskScoringEvaluator, postprocess_to_rle, with_encoded_masks
from ..modeling.fast_inference import fast_inference
from ..modeling.test_time_augmentation import MaskScoringRCNNWithTTA
from ..modeling.train_only import train_only
from .build_errors import config_errors
from .device import inference_dtype, on_available_device
from .divergence import divergence_error
from .early_stop import EarlyStop
from .evaluators import build_evaluator
from .gradient_step import build_gradient_step
from .keep_best import KeepBest
from .model_classes import class_names
from .optimizer import build_optimizer
from .progress import ProgressLine
from .resume_check import identity
from .timed_checkpoints import TimedCheckpointer
from .training_log import LOG, read_evaluations
from .wandb_writer import WandbWriter

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Detectron2's ``DefaultTrainer`` for Mask R-CNN with or without mask scoring."""

    def __init__(self, cfg, *, trust_weights: bool = False):
        """
        Args:
            cfg: a config from :func:`~.prepare.prepare_config`, or any other.
            trust_weights: load weights that are not plain data, and run the code in them.

        Raises:
            UserError: if the data cannot be used.
        """
        self.trust_weights = trust_weights
        if comm.get_world_size() == 1:  # otherwise, the process that launched this one has done so
            check_data(cfg, ("TRAIN", "TEST"))
        self.stops = False  # set by a hook: the training ends after the step
        cfg = on_available_device(cfg)
        super().__init__(changed(cfg, {"SOLVER.AMP.ENABLED": False}))
        self.cfg = changed(self.cfg, {"SOLVER.AMP.ENABLED": cfg.SOLVER.AMP.ENABLED})  # type: ignore[has-type]
        step = self._trainer  # type: ignore[has-type]
        self._trainer = build_gradient_step(self.cfg, step.model, step.data_loader, step.optimizer)
        # Seeds all random numbers of the training; a resumed run uses the checkpoint's seed.
        self.seed = self._trainer.data_loader.seed

    @classmethod
    def build_model(cls, cfg):
        with config_errors():
            model = super().build_model(cfg)
        train_only(model, cfg.SOLVER.TRAIN_ONLY)
        return model

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg):
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        return TrainLoader.from_config(cfg, MaskScoringDatasetMapper(cfg, True), seed)

    @classmethod
    def build_test_loader(cls, cfg, dataset_name: str):
        mapper = NamedErrors(ImageMapper(cfg, False))
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name: str) -> MaskScoringEvaluator:
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(cls, cfg, model, evaluators=None) -> OrderedDict:
        """Evaluates like Detectron2's trainer, with test-time augmentation if ``TEST.AUG.ENABLED``.

        Masks are encoded without being pasted, unless other evaluators are given. The model runs in
        :func:`~..modeling.fast_inference.fast_inference`, in ``TEST.DTYPE``.
        """
        if cfg.TEST.AUG.ENABLED:
            postprocess = detector_postprocess if evaluators else postprocess_to_rle
            model = MaskScoringRCNNWithTTA(cfg, model, postprocess=postprocess)
        elif not evaluators:
            model = with_encoded_masks(model)
        with fast_inference(model, inference_dtype(cfg)):
            return super().test(cfg, model, evaluators)

    def build_hooks(self):
        # Replace the checkpointer that the base class has just created, before hooks use it.
        self.checkpointer = MaskScoringCheckpointer(
            self.model,
            self.cfg.OUTPUT_DIR,
            trusted=self.trust_weights,
            keep=self.cfg.SOLVER.CHECKPOINT_KEEP,
            class_names=class_names(self.cfg),
            trainer=weakref.proxy(self),
        )
        hooks = super().build_hooks()
        for hook in list(hooks):
            if isinstance(hook, PreciseBN):
                hooks.insert(hooks.index(hook), SameBatches(hook))
            if isinstance(hook, PeriodicCheckpointer) and self.cfg.SOLVER.CHECKPOINT_MINUTES:
                hooks.insert(hooks.index(hook) + 1, TimedCheckpointer(self.cfg, self.checkpointer))
        keep_best = None
        if comm.is_main_process():
            hooks.insert(
                1, ProgressLine(self.cfg)
            )  # after the timer, before a checkpoint's log lines
            if self.cfg.SOLVER.KEEP_BEST:
                # After the evaluation, before the writers.
                keep_best = KeepBest(self.cfg, self.checkpointer)
                hooks.insert(-1, keep_best)
        if self.cfg.SOLVER.EARLY_STOP:
            end = len(hooks) - comm.is_main_process()  # of the writers
            hooks.insert(end, EarlyStop(self.cfg, self.checkpointer, keep_best))
        return hooks

    def build_writers(self) -> list:
        writers = super().build_writers()
        if self.cfg.WANDB:
            self._wandb = WandbWriter(self.cfg)
            writers.insert(0, self._wandb)
        return writers

    def resume_or_load(self, resume: bool = True) -> None:
        """Starts from ``MODEL.WEIGHTS``, or resumes from the last checkpoint.

        A resumed run continues as if it had never stopped, bit for bit on the CPU.
        :func:`~.resume_check.check_resume` checks that the checkpoint belongs to this run.

        Raises:
            UserError: if processes resume from different iterations.
        """
        if comm.is_main_process():
            remove_parts(Path(self.cfg.OUTPUT_DIR))
        super().resume_or_load(resume)
        if len(set(comm.all_gather(self.start_iter))) > 1:
            raise UserError(
                f"the processes would resume from different iterations: '{self.cfg.OUTPUT_DIR}' "
                "must be the same folder for all of them"
            )
        self._trainer.data_loader.start = self.start_iter

    def train(self) -> OrderedDict:
        """Trains to the end; a full disk raises one clear ``UserError``."""
        try:
            return super().train()
        except EndOfTraining:
            return OrderedDict(getattr(self, "_last_eval_results", {}))
        except OSError as error:
            if isinstance(error.__context__, UserError):  # the first error
                raise error.__context__ from None
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"cannot write to '{self.cfg.OUTPUT_DIR}': {error.strerror}; free some space and "
                "continue with --resume"
            ) from error

    def before_train(self) -> None:
        if self.cfg.WANDB and comm.is_main_process():
            self._wandb.start(resumed=self.start_iter > 0)
        super().before_train()
        self._make_up_for_evaluation()
        self._end_if_stopped(self.start_iter)

    def _make_up_for_evaluation(self) -> None:
        """Evaluates a resumed run that was killed between a checkpoint and its evaluation."""
        period, steps = self.cfg.TEST.EVAL_PERIOD, self.start_iter
        if period <= 0 or steps == 0 or steps % period or steps >= self.max_iter:
            return
        log = read_evaluations(Path(self.cfg.OUTPUT_DIR) / LOG)
        known, *_ = comm.all_gather(any(line["iteration"] == steps - 1 for line in log))
        if known:
            return
        logger.info("The evaluation after iteration %d is missing: evaluating now.", steps)
        # As if the last step had just been made.
        self.iter = self.storage.iter = steps - 1
        for hook in self._hooks:
            if isinstance(hook, EvalHook | KeepBest | EarlyStop):
                hook.after_step()
        self.iter = self.storage.iter = steps

    def after_step(self) -> None:
        super().after_step()
        self._end_if_stopped(self.iter + 1)

    def _end_if_stopped(self, steps: int) -> None:
        """Ends the training as if its ``SOLVER.MAX_ITER`` were this number of steps."""
        if self.stops:
            self.iter = self.max_iter = steps
            self.cfg = changed(self.cfg, {"SOLVER.MAX_ITER": steps})
            raise EndOfTraining

    def after_train(self) -> None:
        if self.iter >= self.max_iter:  # TrainerBase counts one further after the last step
            super().after_train()
        else:  # training failed: write the log, start nothing else
            for hook in self._hooks:
                if isinstance(hook, PeriodicWriter):
                    hook.after_train()

    def run_step(self) -> None:
        seed_step(self.seed, comm.get_rank(), self.iter)
        try:
            super().run_step()
        except FloatingPointError as error:  # a loss or a proposal is not finite
            raise divergence_error(self, error) from error

    def state_dict(self) -> dict:
        """Returns what a checkpoint holds besides the model.

        Detectron2 v0.6 leaves out its inner trainer, which has the optimizer and the gradient
        scaler; upstream main saves it under the same key.
        """
        state = super().state_dict()
        state["_trainer"] = self._trainer.state_dict()
        state["seed"] = self.seed
        state["identity"] = identity(self.cfg, self.model, self.optimizer)
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        # Skip DefaultTrainer's method: upstream's loads the inner trainer a second time.
        TrainerBase.load_state_dict(self, state_dict)
        if "seed" in state_dict:
            self.seed = self._trainer.data_loader.seed = state_dict["seed"]
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        else:
            logging.getLogger(__name__).warning(
                "The checkpoint holds no optimizer state: momentum starts from zero."
            )


class EndOfTraining(BaseException):
    """Leaves Detectron2's loop early; it would log an ``Exception`` as an error."""


class SameBatches(HookBase):
    """Gives ``PreciseBN`` the same batches each time, so that a resumed run gives the same result.

    On its own, ``PreciseBN`` would continue its iterator.
    """

    def __init__(self, precise_bn: PreciseBN):
        self._precise_bn = precise_bn

    def after_step(self) -> None:
        self._precise_bn._data_loader.seed = self.trainer.seed
        self._precise_bn._data_iter = None


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seeds the random numbers of a step of training.

    Each step has its own seed, so that it depends neither on the random numbers that an evaluation
    has drawn nor on where the run was interrupted.
    """
    seed_all_rng(int(np.random.SeedSequence((seed, rank, iteration)).generate_state(1)[0]))


def train(cfg, *, resume: bool = False, trust_weights: bool = False) -> OrderedDict:
    """Trains the model of a config, then evaluates it.

    Args:
        cfg: a config from :func:`~.start.start_run`.
        resume: resume from the last checkpoint of the output folder, if there is one.
        trust_weights: load weights that are not plain data, and run the code in them.

    Returns:
        The metrics of the last evaluation.
    """
    trainer = Trainer(cfg, trust_weights=trust_weights)
    trainer.resume_or_load(resume=resume)
    return trainer.train()
