"""The trainer: Detectron2's, with our data mapper, evaluator and a complete checkpoint."""

import logging
import weakref
from collections import OrderedDict

from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer, TrainerBase
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.utils import comm

from ..checkpoint import MaskScoringCheckpointer
from ..data import MaskScoringDatasetMapper
from ..evaluation import MaskScoringEvaluator, postprocess_to_rle, with_encoded_masks
from ..modeling.test_time_augmentation import MaskScoringRCNNWithTTA
from .config_checks import check_config
from .evaluation import build_evaluator
from .optimizer import build_optimizer
from .progress import ProgressLine


class Trainer(DefaultTrainer):
    """Detectron2's default trainer for Mask R-CNN with or without mask scoring."""

    def __init__(self, cfg):
        """
        Args:
            cfg: a complete config.

        Raises:
            UserError: if the config asks for mask scoring but would not get it.
        """
        check_config(cfg)
        super().__init__(cfg)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=MaskScoringDatasetMapper(cfg, True))

    @classmethod
    def build_evaluator(cls, cfg, dataset_name: str) -> MaskScoringEvaluator:
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(cls, cfg, model, evaluators=None) -> OrderedDict:
        """Detectron2's, with test-time augmentation where ``TEST.AUG.ENABLED``.

        Masks are encoded without being pasted, unless other evaluators than ours are given.
        """
        if cfg.TEST.AUG.ENABLED:
            postprocess = detector_postprocess if evaluators else postprocess_to_rle
            model = MaskScoringRCNNWithTTA(cfg, model, postprocess=postprocess)
        elif not evaluators:
            model = with_encoded_masks(model)
        return super().test(cfg, model, evaluators)

    def build_hooks(self):
        # The base class has just made its own checkpointer; the hooks are to save with ours.
        self.checkpointer = MaskScoringCheckpointer(
            self.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        hooks = super().build_hooks()
        if comm.is_main_process():
            hooks.insert(1, ProgressLine())  # behind the timer, before a checkpoint's log lines
        return hooks

    def state_dict(self) -> dict:
        """What a checkpoint holds besides the model.

        Detectron2 v0.6 forgets its inner trainer, which has the optimizer and the gradient
        scaler; upstream saves it since, under the same key.
        """
        state = super().state_dict()
        state["_trainer"] = self._trainer.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        # Not DefaultTrainer's: upstream's would load the inner trainer a second time.
        TrainerBase.load_state_dict(self, state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])
        else:
            logging.getLogger(__name__).warning(
                "The checkpoint holds no optimizer state: momentum starts from zero."
            )


def evaluate(cfg, resume: bool = False) -> OrderedDict:
    """Evaluate the weights of a config on its test datasets.

    Args:
        cfg: a complete config.
        resume: take the last checkpoint of the output folder instead of ``MODEL.WEIGHTS``.

    Returns:
        The results that :class:`MaskScoringEvaluator` returns, by dataset if there are several.
    """
    check_config(cfg)
    model = Trainer.build_model(cfg)
    checkpointer = MaskScoringCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    return Trainer.test(cfg, model)
