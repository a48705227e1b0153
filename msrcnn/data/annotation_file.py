"""Annotation files, read and checked once: the runs of a sweep ask for them many times."""

import contextlib
import functools
import json
import logging
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .coco_rules import (
    check_annotations,
    check_images,
    check_trainable,
    mask_format,
    readable,
)
from .finding import Finding
from .header_cache import SETTLED
from .user_cache import read_cache, write_cache

logger = logging.getLogger(__name__)

CACHED_FROM = 100_000  # annotations; fewer are checked in a second or two
IMAGE_KEYS = ("id", "width", "height", "file_name", "coco_url", "neg_category_ids")


def read_coco(annotations: Path) -> Any:
    """Reads an annotation file, whose content need not be in COCO's format.

    Annotations of COCO 2014's minival and valminusminival, some of whose ids are not unique, are
    numbered again; Detectron2 makes the same exception.

    Raises:
        UserError: if it cannot be read, or is not JSON.
    """
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read '{annotations}': {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{annotations} is nested too deeply to be an annotation file") from error
    except ValueError as error:  # also of the encoding, and of numbers with thousands of digits
        raise UserError(f"{annotations} is not JSON in UTF-8: {error}") from error
    if "minival" in annotations.name:
        with contextlib.suppress(AttributeError, TypeError):  # not in COCO's format
            for number, annotation in enumerate(content["annotations"], start=1):
                annotation["id"] = number
    return content


class CheckedData:
    """A dataset whose annotations were checked: what training and evaluation ask about it.

    Attributes:
        mask_format: the ``INPUT.MASK_FORMAT`` that it needs, see :func:`~.coco_rules.mask_format`.
    """

    def __init__(self, facts: dict, name: str, command: str = ""):
        """
        Args:
            facts: see :func:`facts_of`.
            name: name of the file or the dataset, for messages.
            command: the command that lists all problems, for messages.

        Raises:
            UserError: naming the file, the first bad record and how to fix it. Problems that the
                data can be used with are logged.
        """
        self._name, self._command = name, command
        self._report(facts["findings"])
        self.mask_format = facts["mask_format"]
        self._facts, self._seen = facts, set()

    def for_training(self, *, masks: bool = True) -> None:
        """Checks that the dataset can be trained on.

        Args:
            masks: whether every instance needs a mask.

        Raises:
            UserError: if there is nothing to train on, or a mask is missing.
        """
        self._report(self._facts["untrainable" if masks else "untrainable_boxes"])

    def for_evaluation(self, *, masks: bool = False) -> None:
        """Checks that detections can be compared with the dataset: a test set has no annotations.

        Args:
            masks: whether masks are compared, so that every instance needs one.

        Raises:
            UserError: if there is no instance, or a mask is missing.
        """
        if self._facts["untrainable_boxes"]:  # the only problem that they name
            raise UserError(
                f"{self._name} has no instance to compare detections with: give annotated data"
            )
        if masks:
            self._report(self._facts["untrainable"])

    def with_images(self, images: Path, value_range: Sequence[float] = ()) -> None:
        """Checks the image files, once.

        Args:
            images: the directory that ``file_name`` is relative to.
            value_range: ``INPUT.VALUE_RANGE``.

        Raises:
            UserError: if an image is missing, damaged, of another size, or of more than 8 bits
                without a range of values.
        """
        key = (images, tuple(value_range))
        if key not in self._seen:
            found = check_images(self._facts["images"], images, value_range=value_range)
            self._report(_brief(found), "".join(f" {each:g}" for each in value_range))
            self._seen.add(key)

    def _report(self, findings: list[list], value_range: str = "") -> None:
        command = self._command
        if command and value_range:
            command += f" --value-range{value_range}"
        for stops, first, number in findings:
            message = f"{self._name}: {first}"
            if number > 1:
                message += f" ({number - 1} more{command and f'; `{command}` lists them'})"
            if stops:
                raise UserError(message)
            logger.warning(message)


def facts_of(content: Any) -> dict:
    """Checks a dataset in COCO's format.

    Returns:
        What :class:`CheckedData` asks for, JSON-serializable: ``findings``, a list of
        ``[stops, first message, number of messages]``, those that stop first; if none of them
        stops also ``untrainable`` and ``untrainable_boxes``, such lists for training with and
        without masks, ``mask_format`` and ``images``.
    """
    found = check_annotations(content)
    findings = _brief(sorted(found, key=lambda finding: not finding.stops))
    if not readable(found):
        return {"findings": findings}
    return {
        "findings": findings,
        "untrainable": _brief(check_trainable(content)),
        "untrainable_boxes": _brief(check_trainable(content, masks=False)),
        "mask_format": mask_format(content),
        "images": [{k: image[k] for k in IMAGE_KEYS if k in image} for image in content["images"]],
    }


def _brief(findings: list[Finding]) -> list[list]:
    return [[each.stops, each.messages[0], len(each.messages)] for each in findings]


def checked_file(annotations: Path, images: Path) -> CheckedData:
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
def _checked(path: Path, images: Path, modified: int, size: int) -> CheckedData:
    command = shlex.join(["msrcnn", "check", str(path), str(images), "--examples", "-1"])
    known = read_cache("annotations", str(path)) or {}
    if known.get("file") == [size, modified]:
        return CheckedData(known["facts"], str(path), command)
    content = read_coco(path)
    facts = facts_of(content)
    checked = CheckedData(facts, str(path), command)
    settled = abs(time.time() - modified / 1e9) > SETTLED
    if len(content.get("annotations", [])) >= CACHED_FROM and settled:
        write_cache("annotations", str(path), {"file": [size, modified], "facts": facts})
    return checked
