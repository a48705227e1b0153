"""Loading of weights: Detectron2's checkpointer, made safe, and saying what it did."""

import logging
import shutil
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import Tensor

from ..atomic_file import atomic_file
from ..errors import UserError
from .checkpoint_files import (
    LAST_CHECKPOINT,
    is_resumable,
    is_whole,
    periodic_checkpoints,
    resumable_checkpoints,
)
from .load_report import LoadReport, Mismatch, make_report
from .safe_load import DamagedFileError, load_checkpoint_file
from .torchvision_weights import convert_torchvision_resnet, is_torchvision_resnet
from .weights_names import resolve_weights

logger = logging.getLogger(__name__)


class MaskScoringCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer for which a file is data, and which says what it loaded.

    It reads what Detectron2's reads, torchvision's ResNets, safetensors, and the names of
    Detectron2's model zoo. A file that holds more than data is refused, as is one of another
    model: only layers that depend on the number of classes or anchors may differ.
    """

    def __init__(self, model, save_dir="", *, trusted: bool = False, keep: int = 0, **kwargs):
        """
        Args:
            model: to load into and to save.
            save_dir: where checkpoints are saved and found.
            trusted: also load what is not plain data, and run the code in it.
            keep: periodic checkpoints to keep, the last ones; 0 keeps all.
            **kwargs: of Detectron2's checkpointer.
        """
        super().__init__(model, save_dir, **kwargs)
        self.trusted = trusted
        self.keep = keep
        self.report: LoadReport | None = None  # of what was loaded last
        self._source = ""  # what is being loaded, by the name it was given

    def save(self, name: str, **kwargs) -> None:
        """Save a checkpoint, whole or not at all, and remove those that are not to be kept.

        Args:
            name: of the file, without its ending.
            **kwargs: what else to save.

        Raises:
            UserError: if the file cannot be written, the disk being full, say; earlier
                checkpoints are as they were.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
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
        # PyTorch does not say that a disk is full, only that it cannot write.
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot save '{path}': {_one_line(error)}{self._advice()}") from error

    def _advice(self) -> str:
        """How much room there is, and how to go on once there is more."""
        try:
            room = f" ({shutil.disk_usage(self.save_dir).free >> 20} MiB are free there)"
        except OSError:
            return ""
        last = self.get_checkpoint_file()
        return room + (f"; continue with --resume from '{last}'" if last else "")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with atomic_file(Path(self.save_dir) / LAST_CHECKPOINT) as file:
            file.write(last_filename_basename.encode())

    def has_checkpoint(self) -> bool:
        return bool(resumable_checkpoints(Path(self.save_dir)))

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict:
        """Go on from the last checkpoint that is whole; if there is none, load weights.

        Args:
            path: weights to start from.
            resume: look for checkpoints first.

        Returns:
            What else the file holds.

        Raises:
            UserError: if there are checkpoints, and all of them are damaged.
        """
        found = resumable_checkpoints(Path(self.save_dir)) if resume else []
        for checkpoint in found:
            try:
                if is_whole(checkpoint):
                    return self.load(str(checkpoint))
            except DamagedFileError:  # where no checksum is, in the list of what is in the file
                pass
            logger.warning("Checkpoint '%s' is damaged: the one before it is taken.", checkpoint)
        if found:
            raise UserError(
                f"all checkpoints in '{self.save_dir}' are damaged; without --resume, training "
                "starts anew"
            )
        return self.load(path, checkpointables=[])

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load weights, and say in one message of the log what came of it.

        Args:
            path: a file, an address, or a name of Detectron2's model zoo; if empty, nothing is
                loaded.
            checkpointables: what else to load, as for Detectron2's checkpointer.

        Returns:
            What else the file holds.

        Raises:
            UserError: if the file cannot be had, is refused, or is not of this model.
        """
        if not path:
            logger.info("No weights are given: the whole model starts fresh.")
            return {}
        self._source = path
        address = resolve_weights(path)
        try:
            file = self.path_manager.get_local_path(address)
        except (OSError, RuntimeError, KeyError) as error:  # of the net, of Detectron2's catalog
            raise UserError(f"cannot get the weights '{address}': {error}") from error
        return super().load(file, checkpointables)

    def _load_file(self, filename: str) -> dict:
        checkpoint = load_checkpoint_file(filename, trusted=self.trusted)
        if is_torchvision_resnet(checkpoint["model"]):
            # The heuristics put a backbone's names below the model's own prefix.
            return {
                "model": convert_torchvision_resnet(checkpoint["model"]),
                "__author__": "torchvision",
                "matching_heuristics": True,
            }
        return checkpoint

    def _load_model(self, checkpoint: dict):
        if checkpoint.pop("matching_heuristics", False):
            try:
                checkpoint["model"] = self._match_names(
                    checkpoint["model"], is_caffe2=checkpoint.get("__author__") == "Caffe2"
                )
            except Exception as error:  # what the heuristics make of names they do not know
                raise UserError(
                    f"'{self._source}': its names cannot be matched with the model's: "
                    f"{_one_line(error)}"
                ) from error
        try:
            return super()._load_model(checkpoint)
        except RuntimeError as error:
            raise UserError(f"'{self._source}' cannot be loaded: {_one_line(error)}") from error

    def _match_names(self, weights: dict[str, Tensor], is_caffe2: bool) -> dict[str, Tensor]:
        """Names of other libraries, or of a part of the model, as the model's."""
        model = self.model.state_dict()
        matched = align_and_update_state_dicts(model, weights, c2_conversion=is_caffe2)
        # What it leaves out for its shape keeps its own name, and would look as if the model had
        # no such layer. By the model's name it is seen for what it is.
        for name in sorted(model.keys() - matched.keys()):
            parts = name.split(".")
            suffixes = (".".join(parts[start:]) for start in range(1, len(parts)))
            own = next((suffix for suffix in suffixes if suffix in matched), None)
            if own is not None:
                matched[name] = matched.pop(own)
        return matched

    def _log_incompatible_keys(self, incompatible) -> None:
        # Detectron2's words are a line for each name; here is one message instead of them.
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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
