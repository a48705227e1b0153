"""Rules about COCO-format annotation files, the same for training, evaluation and ``msrcnn check``.

The schema says of what type values are, and the rules here what the values may be.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..class_names import spelled_otherwise, without_spelling
from .coco_schema import KINDS, POLYGONS, image_name, schema_problems
from .finding import Finding
from .image_files import image_problems
from .image_paths import image_path, leaves_folder
from .image_values import range_findings
from .mask_rules import mask_findings


def mask_format(content: dict) -> str:
    """Returns the ``INPUT.MASK_FORMAT`` that an annotation file requires.

    Args:
        content: a COCO-format dict.

    Returns:
        ``"polygon"`` if every training instance is a polygon, otherwise ``"bitmask"``, which
        supports both polygons and RLE.
    """
    # Crowd regions are always RLE, but are not used for training.
    rle = any(
        isinstance(annotation.get("segmentation"), dict)
        for annotation in content.get("annotations", [])
        if not annotation.get("iscrowd", 0)
    )
    return "bitmask" if rle else "polygon"


def check_coco(
    content: object,
    images: Path,
    *,
    training: bool = True,
    decode: bool = False,
    value_range: Sequence[float] = (),
) -> list[Finding]:
    """Finds the problems of a COCO-format file.

    Args:
        content: the content of the file.
        images: the directory that ``file_name`` is relative to.
        training: whether the file is to train on, so that it needs annotations with masks.
        decode: decode the images instead of reading their headers.
        value_range: ``INPUT.VALUE_RANGE``.

    Returns:
        One finding per kind of problem, those that stop first; empty if there is none.
    """
    findings = check_annotations(content)
    if readable(findings):
        findings += check_trainable(content) if training else []
        findings += check_images(content["images"], images, decode=decode, value_range=value_range)
    return sorted(findings, key=lambda finding: not finding.stops)


def check_annotations(content: object) -> list[Finding]:
    """Finds the problems of a COCO-format file, without its images.

    Args:
        content: the content of the file. ``annotations``, and the ``segmentation`` of each, may be
            missing.
    """
    types = list(schema_problems(content))
    if types:  # the rules rely on them
        return [Finding(True, types, readable=False)]
    rules = (_identity, _crowd_regions, mask_findings)
    findings = (finding for rule in rules for finding in rule(content))
    return [finding for finding in findings if finding.messages]


def readable(findings: list[Finding]) -> bool:
    """Whether all values are there and of the right type, so that more can be said about them."""
    return all(finding.readable for finding in findings)


def check_trainable(content: dict, *, masks: bool = True) -> list[Finding]:
    """Finds out whether there is something to train on.

    Args:
        content: the content of a COCO-format file, of the types of the schema.
        masks: whether every instance needs a mask.
    """
    if "annotations" not in content:
        return [Finding(True, ["'annotations' is missing or is not a list"])]
    annotations = content["annotations"]
    instances = [each for each in annotations if not each.get("iscrowd", 0)]
    if not instances:
        found = f"all {len(annotations)} annotations are crowds"
        empty = "'annotations' is empty"
        return [Finding(True, [f"no instance to train on: {found if annotations else empty}"])]
    missing = [each for each in instances if masks and not each.get("segmentation")]
    if 1 < len(missing) == len(instances):
        boxes = (
            f"none of the {len(instances)} instances has a 'segmentation': they are boxes, but "
            "masks are needed; export polygons or masks from the labelling tool. With "
            "MODEL.MASK_ON False MODEL.MASKIOU_ON False, a model needs boxes only"
        )
        return [Finding(True, [boxes])]
    without = [
        f"annotation {each['id']} has no 'segmentation'; it must be RLE, or {POLYGONS}"
        for each in missing
    ]
    return [Finding(True, without)] if without else []


def check_images(
    images: list[dict], folder: Path, *, decode: bool = False, value_range: Sequence[float] = ()
) -> list[Finding]:
    """Finds image files that are not in the folder, missing, damaged, or not of the annotated size
    or depth.

    Args:
        images: records of a COCO-format file.
        folder: the directory that ``file_name`` is relative to; ``Path()`` for datasets of Python
            functions, whose file names are whole paths.
        decode: decode the images instead of reading their headers.
        value_range: ``INPUT.VALUE_RANGE``.
    """
    outside = [
        f"image {record['id']}: its file name {image_name(record)!r} leads out of the image "
        "directory; give the folder that holds all images, and file names below it"
        for record in images
        if leaves_folder(record)
    ]
    if outside and Path(folder) != Path():
        return [Finding(True, outside)]
    listed: dict[str, set[str]] = {}  # one directory listing instead of one stat per image
    missing: list[tuple[int, str]] = []
    for record in images:
        path = image_path(record, folder)
        parent, name = os.path.split(path)
        if parent not in listed:
            listed[parent] = _listing(parent)
        if name not in listed[parent]:
            missing.append((record["id"], path))
    problems = _missing(missing, folder) or image_problems(
        images, folder, decode=decode, value_range=value_range
    )
    if problems:
        return [Finding(True, problems)]
    return range_findings(images, folder, value_range, decode=decode) if value_range else []


def _missing(images: list[tuple[int, str]], folder: Path) -> list[str]:
    """Names the images that do not exist, and files that they may mean."""
    if not images:
        return []
    files: dict[str, str] = {}  # by name, which may differ in capital letters
    for parent, folders, names in os.walk(folder) if folder != Path() else ():
        folders.sort()
        for name in sorted(names):
            files.setdefault(name.casefold(), os.path.join(parent, name))
    near = [files.get(os.path.basename(path).casefold()) for _, path in images]
    return [
        f"image {number}: {path!r} does not exist{found and f', but {found!r} does'}; fix its "
        "'file_name' or the image directory"
        for (number, path), found in zip(images, (each or "" for each in near))
    ]


def _listing(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder or "."))
    except (OSError, ValueError):  # missing, unreadable, or no name of a folder at all
        return set()


def _identity(content: dict) -> Iterator[Finding]:
    """Ids are unique and refer to records, and each file is one image."""
    annotations = content.get("annotations", [])
    for key, fix in (
        ("images", "list every image with 'id', 'file_name', 'width' and 'height'"),
        ("categories", "list every class with its 'id' and 'name'"),
    ):
        yield Finding(True, [] if content[key] else [f"'{key}' is empty; {fix}"])
    for key, kind in KINDS.items():
        yield Finding(True, list(_repeated(content.get(key, []), "id", kind)))
    yield Finding(True, list(_repeated(content["categories"], "name", "category")))
    yield Finding(False, list(_spellings(content["categories"])))
    yield Finding(False, list(_same_files(content["images"])))
    image_ids = {image["id"] for image in content["images"]}
    category_ids = {category["id"] for category in content["categories"]}
    yield Finding(
        True,
        [
            f"annotation {each['id']}: {key} {each[key]} is not the id of {what}"
            for each in annotations
            for key, known, what in (
                ("image_id", image_ids, "an image"),
                ("category_id", category_ids, "a category"),
            )
            if each[key] not in known
        ],
    )


def _spellings(categories: list[dict]) -> Iterator[str]:
    """Each name is a class of its own, also if it is another one with a typing error."""
    first: dict[str, str] = {}  # names by what is left without their spelling
    for category in categories:
        name = category["name"]
        other = first.setdefault(without_spelling(name), name)
        if found := spelled_otherwise([name], [other]):
            yield f"category {category['id']}: {found}, but are two classes; give them one name"


def _crowd_regions(content: dict) -> Iterator[Finding]:
    """Crowds have a mask where instances have one: a box covers more."""
    annotations = content.get("annotations", [])
    if not any(each.get("segmentation") for each in annotations):
        return
    yield Finding(
        False,
        [
            f"annotation {each['id']}: it is a crowd without 'segmentation', so evaluation ignores "
            "unmatched detections in all of its box; give it a mask if it fills only part of it"
            for each in annotations
            if each.get("iscrowd", 0) and not each.get("segmentation")
        ],
    )


def _same_files(images: list[dict]) -> Iterator[str]:
    """Each of the images would teach that the objects of the others are background."""
    first: dict[str, int] = {}
    for image in images:
        name = image_name(image)
        if name in first:
            yield (
                f"image {image['id']}: its file {name!r} is that of image {first[name]}, too; list "
                "it once, with all its annotations"
            )
        first.setdefault(name, image["id"])


def _repeated(records: list[dict], key: str, kind: str) -> Iterator[str]:
    seen = set()
    for record in records:
        if record[key] in seen:
            yield f"{kind} {key} {record[key]!r} is used more than once; give each its own"
        seen.add(record[key])
