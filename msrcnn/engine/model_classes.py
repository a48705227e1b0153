"""The classes of a run: the names of the model's classes, compared with those of its data."""

import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from ..checkpoint import load_class_names
from ..checkpoint.checkpoint_files import resumable_checkpoints
from ..class_names import (
    arranged,
    class_indices,
    listed,
    same_classes,
    shortened,
    spelled_otherwise,
)
from ..data.custom import dataset_label, is_custom_dataset
from ..data.dataset_classes import dataset_classes
from ..errors import UserError

logger = logging.getLogger(__name__)


def class_names(cfg: CfgNode) -> list[str]:
    """Returns the names of a config's classes by index; empty if they are unknown.

    ``DATASETS.CLASS_NAMES``, or else the names of a dataset of the config, of those to train on
    first, with ``MODEL.ROI_HEADS.NUM_CLASSES`` classes.
    """
    return list(cfg.DATASETS.CLASS_NAMES) or _classes_of_data(cfg)[1]


def _classes_of_data(cfg: CfgNode) -> tuple[str, list[str]]:
    """Returns a dataset with as many classes as the model, and their names; empty if none has."""
    number = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    found = ((name, dataset_classes(name)) for name in datasets)
    return next((each for each in found if len(each[1]) == number), ("", []))


def use_class_names(
    cfg: CfgNode, splits: Sequence[str], *, resume: bool = False, keep_classes: bool = False
) -> None:
    """Sets the names and the number of classes of a config, and compares them with its data.

    A training takes the classes of its data, in the order of the weights that it starts from;
    anything else takes those of the weights. The names of weights are in their file. If it has
    none, they are those of the config, see :func:`class_names`.

    Args:
        cfg: modified in place.
        splits: the datasets that the run uses: ``"TRAIN"``, ``"TEST"``.
        resume: the run resumes from the last checkpoint of ``OUTPUT_DIR``, if there is one.
        keep_classes: the classes are those of the weights, although the run uses ``"TRAIN"``.

    Raises:
        UserError: if the classes of datasets or weights do not belong together; it lists both.
    """
    weights, resumes = _weights(cfg, resume)
    saved = load_class_names(Path(weights), own=resumes) if weights else []
    train, test = (
        {name: dataset_classes(name) for name in cfg.DATASETS[split] if split in splits}
        for split in ("TRAIN", "TEST")
    )
    trained = _classes_of_training(train)
    if train and not keep_classes:
        names = _arranged(cfg, trained, saved) if trained else list(cfg.DATASETS.CLASS_NAMES)
        if resumes and saved and not same_classes(names, saved):
            raise UserError(
                f"the checkpoint '{weights}' has {listed(saved)}, but the run has {listed(names)}: "
                "start from it as MODEL.WEIGHTS in a new OUTPUT_DIR"
            )
    else:
        names = _classes_of_weights(cfg, weights, saved)
    if not names:  # unknown: those of custom data, whose number is compared with the weights'
        own = [found for name, found in {**train, **test}.items() if is_custom_dataset(name)]
        names = own[0] if own else list(cfg.DATASETS.CLASS_NAMES)
    cfg.DATASETS.CLASS_NAMES = tuple(names)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(names) or cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if weights or train:  # otherwise there is no model, but saved predictions
        for name, found in {**train, **test}.items():
            _check_dataset(name, found, names, cfg.MODEL.ROI_HEADS.NUM_CLASSES)


def _weights(cfg: CfgNode, resume: bool) -> tuple[str, bool]:
    """Returns the weights that the run starts with, and whether it resumes from them."""
    found = resumable_checkpoints(Path(cfg.OUTPUT_DIR)) if resume else []
    return (str(found[0]), True) if found else (cfg.MODEL.WEIGHTS, False)


def _classes_of_training(train: dict[str, list[str]]) -> list[str]:
    """Returns the classes of the training data, which all datasets must have; empty if unknown."""
    (first, names), *others = [each for each in train.items() if each[1]] or [("", [])]
    for name, found in others:
        if not same_classes(names, found):
            raise UserError(
                f"DATASETS.TRAIN: {dataset_label(first)} has {listed(names)}, but "
                f"{dataset_label(name)} has {listed(found)}: train on datasets with the same "
                f"classes{_hint(found, names)}"
            )
    return names


def _arranged(cfg: CfgNode, names: list[str], saved: list[str]) -> list[str]:
    """Returns the classes of the training data in the order of the weights that it starts from."""
    first, number = cfg.DATASETS.TRAIN[0], cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if len(names) != number and not is_custom_dataset(first):
        raise UserError(
            f"{dataset_label(first)} has {listed(names)}, but MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{number}: set it to {len(names)}"
        )
    if len(saved) == len(names) and not same_classes(saved, names):
        logger.warning(
            "The weights have %s, the training data %s: classes with a new name start from the "
            "weights of those that they replace%s.",
            listed(saved),
            listed(names),
            _hint(names, saved),
        )
    return arranged(names, saved or cfg.DATASETS.CLASS_NAMES)


def _classes_of_weights(cfg: CfgNode, weights: str, saved: list[str]) -> list[str]:
    if not weights:
        return []
    configured = list(cfg.DATASETS.CLASS_NAMES)
    if saved and configured and not same_classes(saved, configured):
        raise UserError(
            f"'{weights}' has {listed(saved)}, but DATASETS.CLASS_NAMES of the config has "
            f"{listed(configured)}: use the config that the weights were trained with"
        )
    if saved or configured:
        return saved or configured
    dataset, names = _classes_of_data(cfg)
    if is_custom_dataset(dataset):
        logger.warning(
            "'%s' does not name its classes: they are taken to be those of %s, %s, in this order. "
            "If they are not, set DATASETS.CLASS_NAMES.",
            weights,
            dataset_label(dataset),
            listed(names),
        )
    return names


def _check_dataset(name: str, found: list[str], names: list[str], number: int) -> None:
    """Compares the classes of a dataset with those of the model.

    Args:
        name: name of the dataset.
        found: the classes of the dataset; empty if unknown.
        names: the model's classes; empty if unknown.
        number: number of the model's classes.
    """
    if not found:
        return
    if names:
        missing = [n for n, i in zip(found, class_indices(found, names)) if i is None]
        if missing:
            raise UserError(
                f"{dataset_label(name)} has {listed(found)}, but the model has {listed(names)}: "
                f"give data and model the same names; the model has no {shortened(missing)}"
                f"{_hint(missing, names)}"
            )
    elif number != len(found):
        raise UserError(
            f"{dataset_label(name)} has {listed(found)}, but MODEL.ROI_HEADS.NUM_CLASSES is "
            f"{number}; the names of the model's classes are unknown: set DATASETS.CLASS_NAMES"
        )


def _hint(names: list[str], others: list[str]) -> str:
    found = spelled_otherwise(names, others)
    return found and f"; {found}"
