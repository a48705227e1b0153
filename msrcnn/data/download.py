"""Downloads large files with a progress bar, resuming and checksum verification."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..errors import UserError

CHUNK = 1 << 20  # bytes
TIMEOUT = 60  # seconds without any data


class RemoteFile(NamedTuple):
    """A file to download, with the size and MD5 checksum that verify it."""

    url: str
    size: int  # bytes
    md5: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def download(file: RemoteFile, folder: Path, *, tries: int = 5) -> Path:
    """Downloads a file unless it already exists, and resumes an interrupted download.

    Args:
        file: the file to download.
        folder: target directory, created if it does not exist. A partial download is stored
            there with the suffix ``.part``.
        tries: maximum number of connections.

    Returns:
        The path of the complete, verified file.

    Raises:
        UserError: if the download fails, or the size or checksum does not match.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file.name
    if path.is_file() and path.stat().st_size == file.size:
        return path
    part = folder / f"{file.name}.part"
    error: Exception | None = None
    for _ in range(tries):
        try:
            _fetch(file, part)
        except (urllib.error.URLError, ConnectionError, TimeoutError) as failure:
            error = failure
            continue
        if part.stat().st_size >= file.size:
            break
    else:
        raise UserError(
            f"could not download {file.url}: {error or 'the connection was interrupted'}; the "
            f"partial download is kept in {part}; run the command again to resume it"
        )
    _check(file, part)
    return part.rename(path)


def _fetch(file: RemoteFile, part: Path) -> None:
    """Appends the data of one connection to the partial download."""
    done = part.stat().st_size if part.is_file() else 0
    if done >= file.size:
        return
    request = urllib.request.Request(file.url)
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if response.status != 206:  # the server ignored the Range header and sends the whole file
            done = 0
        with (
            open(part, "ab" if done else "wb") as output,
            tqdm(total=file.size, initial=done, unit="B", unit_scale=True, desc=file.name) as bar,
        ):
            while chunk := response.read(CHUNK):
                output.write(chunk)
                bar.update(len(chunk))


def _check(file: RemoteFile, part: Path) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with open(part, "rb") as content:
        for chunk in iter(lambda: content.read(CHUNK), b""):
            digest.update(chunk)
    if part.stat().st_size != file.size or digest.hexdigest() != file.md5:
        found = f"{part.stat().st_size} bytes, MD5 {digest.hexdigest()}"
        part.unlink()
        raise UserError(
            f"the download of {file.url} is damaged and was removed ({found}; expected "
            f"{file.size} bytes, MD5 {file.md5}); run the command again"
        )


def missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Returns the given file names that are missing from a directory or empty."""
    present = {entry.name: entry for entry in (folder.iterdir() if folder.is_dir() else ())}
    return [name for name in names if name not in present or present[name].stat().st_size == 0]
