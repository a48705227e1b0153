"""COCO 2017 on disk, in the layout Detectron2 expects."""

import json
import zipfile
from pathlib import Path

from ..errors import UserError
from .download import RemoteFile, download, missing_files

HOST = "http://images.cocodataset.org"  # the authors' own; it has no valid certificate
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
    return root / "annotations" / f"instances_{split}.json"


def check_split(root: Path, split: str) -> str:
    """Check that a split is complete: its annotations, and every image they list.

    Args:
        root: the folder ``coco``.
        split: ``"train2017"`` or ``"val2017"``.

    Returns:
        A line that says what is there.

    Raises:
        UserError: saying what is missing.
    """
    path = annotation_file(root, split)
    if not path.is_file():
        raise UserError(f"{path} is missing")
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is damaged ({error}): remove it and download again") from error
    missing = missing_files(root / split, [image["file_name"] for image in content["images"]])
    if missing:
        raise UserError(
            f"{root / split}: {len(missing)} of {len(content['images'])} images are missing or "
            f"empty, the first {missing[0]}"
        )
    return f"{split}: {len(content['images'])} images, {len(content['annotations'])} instances"


def fetch(root: Path, split: str, *, keep_archives: bool = False) -> None:
    """Download and unpack what a split needs and the folder lacks.

    Args:
        root: the folder ``coco``.
        split: ``"train2017"`` or ``"val2017"``.
        keep_archives: do not remove the zip files after unpacking.

    Raises:
        UserError: if a download fails or is damaged.
    """
    for name, complete in (
        ("annotations", annotation_file(root, split).is_file()),
        (split, (root / split).is_dir() and not _lacks_images(root, split)),
    ):
        if complete:
            continue
        archive = download(ARCHIVES[name], root)
        with zipfile.ZipFile(archive) as content:
            content.extractall(root)
        if not keep_archives:
            archive.unlink()


def _lacks_images(root: Path, split: str) -> bool:
    content = json.loads(annotation_file(root, split).read_text())
    return bool(missing_files(root / split, (image["file_name"] for image in content["images"])))
