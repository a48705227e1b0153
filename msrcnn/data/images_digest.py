"""A hash of the image files of a dataset, which takes seconds for a hundred thousand of them."""

import functools
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from .image_paths import image_path
from .image_values import THREADS
from .registered import annotation_file, dataset_content, image_root

READ = 256  # images, evenly spread, whose content counts; of the others, the size does
READ_BYTES = 1 << 20  # of such an image, from the middle of the file


def images_digest(name: str) -> str:
    """Returns a hash of the images of a registered dataset, wherever their folder is.

    It is computed once per process, unless the annotation file changes. A copy of the images has
    the same hash, because neither paths nor times count.

    Args:
        name: name of the dataset.

    Returns:
        The hash; empty if the images are not on a disk.

    Raises:
        UserError: if the annotations cannot be read.
    """
    path = annotation_file(name)
    return _digest(name, path and path.stat().st_mtime_ns)


@functools.cache
def _digest(name: str, modified: int | None) -> str:
    root = image_root(name)
    if root is None:
        return ""
    paths = [image_path(image, root) for image in dataset_content(name)["images"]]
    digest = hashlib.sha256()
    with ThreadPoolExecutor(THREADS) as pool:
        digest.update(repr(list(pool.map(_size, paths))).encode())
        for content in pool.map(_middle, paths[:: -(-len(paths) // READ) or 1]):
            digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:  # a report of finished runs needs no images
        return None


def _middle(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(os.path.getsize(path) - READ_BYTES, 0) // 2)
            return file.read(READ_BYTES)
    except OSError:
        return b""
