"""Downloads and checks COCO 2017, in the directory layout that Detectron2 expects."""

import json
import zipfile
from pathlib import Path

from ..errors import UserError
from .download import RemoteFile, download, missing_files

HOST = "http://images.cocodataset.org"  # the official host; its HTTPS certificate is invalid
ARCHIVES = {
    "annotations": RemoteFile(
        f"{HOST}/annotations/annotations_trainval2017.zip",
        252907541,
        "f4bbac642086de4f52a3fdda2de5fa2c",
    ),
    "val2017": RemoteFile(
        f"{HOST}/zips/val2017.zip", 815585330, "442b8da7639aecaf257c1dceb8ba8c80"
    ),
    "train2017": RemoteFile(
        f"{HOST}/zips/train2017.zip", 19336861798, "cced6f7f71b7629ddf16f17bbcfab6b2"
    ),
}
SPLITS = ("val2017", "train2017")


def annotation_file(root: Path, split: str) -> Path:
    """Returns the path of a split's instance annotations."""
    return root / "annotations" / f"instances_{split}.json"


def check_split(root: Path, split: str) -> str:
    """Checks that a split has its annotation file and every image listed in it.

    Args:
        root: path of the ``coco`` directory.
        split: ``"train2017"`` or ``"val2017"``.

    Returns:
        One line with the number of images and instances.

    Raises:
        UserError: if the annotation file or an image is missing or damaged.
    """
    path = annotation_file(root, split)
    if not path.is_file():
        raise UserError(f"{path} is missing; run datasets/prepare_coco.py without --check")
    content = _read(path)
    if content is None:
        raise UserError(f"{path} is damaged; run datasets/prepare_coco.py without --check")
    missing = missing_files(root / split, [image["file_name"] for image in content["images"]])
    if missing:
        raise UserError(
            f"{root / split}: {len(missing)} of {len(content['images'])} images are missing or "
            f"empty (first: {missing[0]}); run datasets/prepare_coco.py without --check"
        )
    return f"{split}: {len(content['images'])} images, {len(content['annotations'])} instances"


def fetch(root: Path, split: str, *, keep_archives: bool = False) -> None:
    """Downloads and extracts the archives of a split, unless its files already exist.

    Args:
        root: path of the ``coco`` directory.
        split: ``"train2017"`` or ``"val2017"``.
        keep_archives: keep the zip files after extracting them.

    Raises:
        UserError: if a download fails or is damaged.
    """
    if _read(annotation_file(root, split)) is None:
        _fetch_archive("annotations", root, keep_archives)
    content = _read(annotation_file(root, split))
    if content is None:
        raise UserError(f"{ARCHIVES['annotations'].url} contains no annotations for {split}")
    if missing_files(root / split, (image["file_name"] for image in content["images"])):
        _fetch_archive(split, root, keep_archives)


def _fetch_archive(name: str, root: Path, keep: bool) -> None:
    archive = download(ARCHIVES[name], root)
    with zipfile.ZipFile(archive) as content:
        content.extractall(root)
    if not keep:
        archive.unlink()


def _read(annotations: Path) -> dict | None:
    """Loads an annotation file; returns ``None`` if it is missing or not valid JSON."""
    try:
        return json.loads(annotations.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
