"""Detectron2's checkpointer with safe loading, atomic saving and a report of what was loaded."""

import logging
import shutil
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from ..atomic_file import atomic_file
from ..errors import UserError
from ..escaping import one_line
from .checkpoint_files import (
    LAST_CHECKPOINT,
    is_resumable,
    load_latest,
    periodic_checkpoints,
    resumable_checkpoints,
)
from .convert.conversion import how_to_convert
from .expected_images import IMAGENET_RGB, ExpectedImages
from .load_report import LoadReport, Mismatch, make_report
from .safe_load import CLASS_NAMES, load_checkpoint_file
from .torchvision_weights import (
    add_body_prefix,
    convert_torchvision_resnet,
    has_torchvision_backbone,
    is_torchvision_resnet,
)
from .weights_names import resolve_weights

logger = logging.getLogger(__name__)


class MaskScoringCheckpointer(DetectionCheckpointer):
    """A ``DetectionCheckpointer`` that does not run code in files, and reports what it loaded.

    In addition to what ``DetectionCheckpointer`` loads, it loads torchvision's ResNets (into a
    torchvision backbone, all of its classification models), safetensors files and the names of
    Detectron2's model zoo. It rejects files that contain more than data, unless they are trusted,
    and weights of a different model: only layers whose shape depends on the number of classes or
    anchors may differ.
    """

    def __init__(
        self,
        model,
        save_dir="",
        *,
        trusted: bool = False,
        keep: int = 0,
        class_names: Sequence[str] = (),
        **kwargs,
    ):
        """
        Args:
            model: the model to load into and to save.
            save_dir: the folder to save checkpoints to and to resume from.
            trusted: also load files that contain more than data, and run the code in them.
            keep: the number of periodic checkpoints to keep, the latest ones; 0 keeps all.
            class_names: names of the model's classes by index, to save with it.
            **kwargs: passed to ``DetectionCheckpointer``.
        """
        super().__init__(model, save_dir, **kwargs)
        self.trusted = trusted
        self.keep = keep
        self.class_names = list(class_names)
        self.report: LoadReport | None = None  # on the weights loaded last
        self._source = ""  # the name under which the current weights were requested

    def save(self, name: str, **kwargs) -> None:
        """Saves a checkpoint atomically, and deletes old ones beyond ``keep``.

        Args:
            name: the file name without extension.
            **kwargs: additional values to save.

        Raises:
            UserError: if the file cannot be written, for example because the disk is full.
                Earlier checkpoints are left unchanged.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict(), CLASS_NAMES: self.class_names}
        content.update({key: each.state_dict() for key, each in self.checkpointables.items()})
        content.update(kwargs)
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving checkpoint to %s", path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                torch.save(content, file)
            if is_resumable(path):
                self.tag_last_checkpoint(path.name)
            for old in periodic_checkpoints(path.parent)[: -self.keep] if self.keep else ():
                if old.name != path.name:
                    old.unlink(missing_ok=True)
        # On a full disk, PyTorch raises a RuntimeError that does not mention the reason.
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"cannot save '{path}': {one_line(str(error))}{self._advice()}"
            ) from error

    def _advice(self) -> str:
        """Returns the free disk space, and how to resume if there is a checkpoint."""
        try:
            room = f" ({shutil.disk_usage(self.save_dir).free >> 20} MiB free on this disk)"
        except OSError:
            return ""
        last = self.get_checkpoint_file()
        return room + (f"; once fixed, continue with --resume from '{last}'" if last else "")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Records the name of the latest checkpoint, atomically.

        Raises:
            OSError: if the file cannot be written.
        """
        with atomic_file(Path(self.save_dir) / LAST_CHECKPOINT) as file:
            file.write(last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        """Returns whether there is a checkpoint to resume from."""
        return bool(resumable_checkpoints(Path(self.save_dir)))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Resumes from the latest intact checkpoint; if there is none, loads weights.

        Args:
            path: the weights to load if there is no checkpoint, see :meth:`load`.
            resume: whether to look for checkpoints first.

        Returns:
            The rest of the checkpoint, such as ``iteration``.

        Raises:
            UserError: if there are checkpoints but all of them are damaged, or in the cases of
                :meth:`load`.
        """
        rest = load_latest(Path(self.save_dir), self._load_all) if resume else None
        return self.load(path, checkpointables=[]) if rest is None else rest

    def _load_all(self, path: Path) -> dict:
        return self.load(str(path))

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Loads weights, and logs one message about what was loaded.

        Args:
            path: a file, a URL or a name in Detectron2's model zoo, see
                :func:`~.weights_names.resolve_weights`. If empty, nothing is loaded.
            checkpointables: the checkpointables to load; all of them if ``None``.

        Returns:
            The rest of the checkpoint, such as ``iteration``.

        Raises:
            UserError: if the file cannot be found or downloaded, is damaged, contains more than
                data, or does not fit the model.
        """
        if not path:
            logger.info("No weights given: the whole model is newly initialized.")
            return {}
        self._source = path
        address = resolve_weights(path)
        try:
            file = self.path_manager.get_local_path(address)
        except UserError:
            raise
        # Download, Detectron2's catalog, and invalid addresses.
        except (OSError, RuntimeError, KeyError, ValueError, HTTPException) as error:
            raise UserError(f"cannot get the weights '{address}': {error}") from error
        if "://" in address and not Path(file).is_file():  # such as s3://
            raise UserError(
                f"cannot get the weights '{address}': no way to load such an address is known; "
                "download the file, and name that"
            )
        self._parsed_url_during_load = None  # Detectron2 leaves it set if the file before failed
        return super().load(file, checkpointables)

    def _load_file(self, filename: str) -> dict:
        folder = Path(filename).parent.resolve()
        own = bool(self.save_dir) and folder == Path(self.save_dir).resolve()
        checkpoint = load_checkpoint_file(filename, trusted=self.trusted, own=own)
        if how := how_to_convert(checkpoint["model"]):  # a few names may be those of the model
            raise UserError(f"'{self._source}' {how}")
        model_names = self.model.state_dict().keys()
        if has_torchvision_backbone(model_names):
            renamed = add_body_prefix(checkpoint["model"], model_names)
            if renamed.keys() != checkpoint["model"].keys():
                self._expect(IMAGENET_RGB)
            checkpoint["model"] = renamed
        elif is_torchvision_resnet(checkpoint["model"]):
            self._expect(IMAGENET_RGB)
            # The heuristics find the prefix that the backbone has in the model.
            return {
                "model": convert_torchvision_resnet(checkpoint["model"]),
                "__author__": "torchvision",
                "matching_heuristics": True,
            }
        return checkpoint

    def _expect(self, images: ExpectedImages) -> None:
        if not images.is_given_by(self.model):
            logger.warning("'%s' expects other images: set %s.", self._source, images)

    def _load_model(self, checkpoint: dict):
        if checkpoint.pop("matching_heuristics", False):
            try:
                checkpoint["model"] = self._match_names(
                    checkpoint["model"], is_caffe2=checkpoint.get("__author__") == "Caffe2"
                )
            except Exception as error:  # the heuristics can raise anything on unknown names
                raise UserError(
                    f"'{self._source}': the parameter names cannot be matched to the model's: "
                    f"{one_line(str(error))}"
                ) from error
        try:
            return super()._load_model(checkpoint)
        except RuntimeError as error:
            raise UserError(f"'{self._source}' cannot be loaded: {one_line(str(error))}") from error

    def _match_names(self, weights: dict[str, Tensor], is_caffe2: bool) -> dict[str, Tensor]:
        """Renames parameters of another library or of a part of the model to the model's names."""
        model = self.model.state_dict()
        matched = align_and_update_state_dicts(model, weights, c2_conversion=is_caffe2)
        # The heuristics do not rename a tensor whose shape differs, so it would be reported as
        # missing from the model. Rename it here, so that the difference in shape is reported.
        for name in sorted(model.keys() - matched.keys()):
            parts = name.split(".")
            suffixes = (".".join(parts[start:]) for start in range(1, len(parts)))
            own = next((suffix for suffix in suffixes if suffix in matched), None)
            if own is not None:
                matched[name] = matched.pop(own)
        return matched

    def _log_incompatible_keys(self, incompatible) -> None:
        # Replaces Detectron2's messages, which have one line per parameter.
        self.report = report = make_report(
            self._source,
            self.model.state_dict(),
            incompatible.missing_keys,
            incompatible.unexpected_keys,
            [Mismatch(*mismatch) for mismatch in incompatible.incorrect_shapes],
        )
        logger.log(logging.WARNING if report.backbone_gap else logging.INFO, "%s", report)
        if details := report.details():
            logger.debug("%s\n%s", self._source, details)
