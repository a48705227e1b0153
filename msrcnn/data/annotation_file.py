"""Annotation files, read and checked once per process: a sweep asks for them many times."""

import functools
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .coco_rules import (
    Finding,
    check_annotations,
    check_images,
    check_trainable,
    mask_format,
    readable,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a config needs to know of a dataset.

    Attributes:
        categories: names by id.
        mask_format: Detectron2's ``INPUT.MASK_FORMAT``.
    """

    categories: dict[int, str]
    mask_format: str

    @property
    def class_names(self) -> list[str]:
        """Names in the order of their ids, which is the order of Detectron2's class indices."""
        return [name for _, name in sorted(self.categories.items())]


def read_coco(annotations: Path) -> object:
    """Reads an annotation file, whose content need not be in COCO's format.

    Raises:
        UserError: if it cannot be read, or is not JSON.
    """
    try:
        return json.loads(annotations.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read '{annotations}': {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{annotations} is nested too deeply to be an annotation file") from error
    except ValueError as error:  # also of the encoding, and of numbers with thousands of digits
        raise UserError(f"{annotations} is not JSON in UTF-8: {error}") from error


class CheckedContent:
    """The content of an annotation file, or the like, with the problems that were found in it.

    Problems that the data can be used with are logged.

    Attributes:
        summary: see :class:`Summary`.
    """

    def __init__(self, content: object, name: str, mend: str = ""):
        """
        Args:
            content: in COCO's format.
            name: of the file or the dataset, for messages.
            mend: a command that lists all problems, for messages.

        Raises:
            UserError: naming the file, the first bad record and how to fix it.
        """
        self._name, self._mend = name, mend
        findings = check_annotations(content)
        if not readable(findings):
            self._report(findings)
        self._report(sorted(findings, key=lambda finding: not finding.stops))
        self.summary = Summary(
            {category["id"]: category["name"] for category in content["categories"]},
            mask_format(content),
        )
        keys = ("id", "width", "height", "file_name", "coco_url", "neg_category_ids")
        self._images = [{k: each[k] for k in keys if k in each} for each in content["images"]]
        self._untrainable = {
            masks: check_trainable(content, masks=masks) for masks in (True, False)
        }
        self._seen: set[str] = set()

    def for_training(self, *, masks: bool = True) -> None:
        """
        Args:
            masks: whether every instance needs a mask.

        Raises:
            UserError: if there is nothing to train on, or a mask is missing.
        """
        self._report(self._untrainable[masks])

    def with_images(self, images: Path) -> None:
        """
        Args:
            images: the directory that ``file_name`` is relative to.

        Raises:
            UserError: if an image is missing, damaged or of another size.
        """
        if images not in self._seen:  # once
            self._report(check_images(self._images, images))
            self._seen.add(images)

    def _report(self, findings: list[Finding]) -> None:
        for finding in findings:
            message = f"{self._name}: {finding.messages[0]}"
            others = len(finding.messages) - 1
            if others:
                message += f" ({others} more{self._mend and f'; `{self._mend}` lists them'})"
            if finding.stops:
                raise UserError(message)
            logger.warning(message)


def checked_file(annotations: Path, images: Path) -> CheckedContent:
    """Reads and checks an annotation file, and again only once it has changed.

    Args:
        annotations: the file.
        images: the image folder, which is only named in messages.

    Raises:
        UserError: if it cannot be read, or naming its first problem.
    """
    path = annotations.resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read '{annotations}': {error.strerror}") from error
    return _checked(path, images.resolve(), status.st_mtime_ns, status.st_size)


@functools.cache
def _checked(path: Path, images: Path, modified: int, size: int) -> CheckedContent:
    return CheckedContent(read_coco(path), str(path), f"msrcnn check {path} {images}")
