"""What a run of ``msrcnn predict`` has done, so that an interrupted one can resume."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..atomic_file import remove_parts, write_file
from ..errors import UserError

LOG = "predict.jsonl"


def refuse_other_results(folder: Path, outputs: Mapping[Path, Path]) -> None:
    """Refuses to overwrite a file that no run has written, or the result of another input.

    A run that was killed may have left files without a line in the log.

    Args:
        folder: the output folder.
        outputs: path of the result in the folder by path of the input.

    Raises:
        UserError: naming the first file.
    """
    log = folder / LOG
    lines = map(_parsed, log.read_bytes().splitlines(keepends=True)) if log.is_file() else []
    inputs = {line["done"]: line["input"] for line in lines if line and "done" in line}
    for source, name in outputs.items():
        if not (folder / name).exists():
            continue
        if not log.is_file():
            raise UserError(
                f"'{folder / name}' is there already, and not from this command: choose another "
                "--output"
            )
        known = inputs.get(str(name))
        if known and known[0] != str(source.resolve()):
            raise UserError(
                f"'{folder / name}' is the result of '{known[0]}', and that of '{source}' would "
                "replace it: choose another --output, or remove it"
            )


class ResultLog:
    """A JSON-lines file in the output folder.

    The first line has the settings of the run. After it come, for each input, the records of its
    images or frames and, once all its files are written, a line that says so. A process that is
    killed leaves at most an input without that line, which is done again.
    """

    def __init__(self, folder: Path, settings: dict, *, resume: bool):
        """
        Args:
            folder: the output folder; created if missing.
            settings: what the results depend on, JSON-serializable.
            resume: keep what is done, if there is something.

        Raises:
            UserError: if the folder has results of other settings, or cannot be written.
        """
        self._folder, self._path = folder, folder / LOG
        self._done: dict[str, dict] = {}
        if not (resume and self._path.is_file()):
            write_file(self._path, json.dumps({"settings": settings}) + "\n")
        try:
            self._file = self._path.open("r+b")
        except OSError as error:
            raise UserError(f"cannot write '{self._path}': {error.strerror or error}") from error
        try:
            self._read(settings)
        except BaseException:
            self._file.close()
            raise
        self._complete = self._file.seek(0, 2)  # where the last input that is done ends

    def __enter__(self) -> "ResultLog":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def is_done(self, source: Path, name: str) -> bool:
        """Whether the results of an input are there, and the input has not changed since.

        Args:
            source: the input file.
            name: path of its result in the output folder.
        """
        done = self._done.get(name)
        return (
            done is not None
            and not done["error"]
            and done["input"] == _state(source)
            and all((self._folder / each).is_file() for each in done["files"])
        )

    def forget(self, name: str) -> None:
        """Drops the records of an input that is processed again and may fail this time."""
        self._done.pop(name, None)

    def start(self) -> None:
        """Starts an input; call :meth:`add` for its images or frames, then :meth:`finish`.

        Records of an input that was not finished, for example because its result could not be
        written, are dropped: they would count as records of the next one.
        """
        self._file.seek(self._complete)
        self._file.truncate()

    def add(self, record: dict) -> None:
        """Adds the record of an image or a frame."""
        self._write({"record": record})

    def finish(self, source: Path, name: str, files: list[Path], error: str = "") -> None:
        """Records that all files of an input are written.

        Args:
            source: the input file.
            name: path of its result in the output folder.
            files: what was written.
            error: why some of its frames are missing; it is then processed again.
        """
        names = [str(path.relative_to(self._folder)) for path in files]
        done = {"done": name, "input": _state(source), "files": names, "error": error}
        self._write(done)
        self._done[name] = {**done, "start": self._complete}
        self._complete = self._file.tell()

    def records(self, name: str) -> Iterator[dict]:
        """Yields the records of an input; none if it is not done."""
        if name not in self._done:
            return
        self._file.seek(self._done[name]["start"])
        for line in self._file:
            content = json.loads(line)
            if "done" in content:
                return
            yield content["record"]

    def _write(self, content: dict) -> None:
        try:
            self._file.write(json.dumps(content).encode() + b"\n")
            if "done" in content:
                self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write '{self._path}': {error.strerror or error}") from error

    def _read(self, settings: dict) -> None:
        """Reads what is done, and cuts off what a killed process has left behind it."""
        complete = 0  # where the last input that is done ends
        for line in self._file:
            content = _parsed(line)
            if content is None:
                break
            if "record" in content:
                continue
            if "settings" in content:
                self._check(content["settings"], settings)
            else:
                self._done[content["done"]] = {**content, "start": complete}
            complete = self._file.tell()
        if not complete:
            raise UserError(
                f"'{self._path}' is damaged: remove it, or run without --resume to start again"
            )
        self._file.truncate(complete)
        for folder in {self._folder, *((self._folder / name).parent for name in self._done)}:
            remove_parts(folder)

    def _check(self, found: dict, expected: dict) -> None:
        for key in sorted(found.keys() | expected.keys()):
            old, new = found.get(key), expected.get(key)
            if old != new:
                raise UserError(
                    f"'{self._folder}' has results with another {key} ({old}, now {new}): choose "
                    "another --output, or run without --resume to start again"
                )


def _parsed(line: bytes) -> dict | None:
    """Returns the content of a line, or ``None`` if it was not written to its end."""
    try:
        content = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    kinds = ({"settings"}, {"record"}, {"done", "input", "files", "error"})
    return content if isinstance(content, dict) and content.keys() in kinds else None


def _state(source: Path) -> list[str | int] | None:
    try:
        status = source.stat()
    except OSError:  # a URL, or it is gone
        return None
    return [str(source.resolve()), status.st_size, status.st_mtime_ns]
