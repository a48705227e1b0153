"""Predicts files: draws them, writes masks and keeps the records for COCO's format."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, takewhile
from pathlib import Path

import numpy as np
from PIL import Image

from ..atomic_file import atomic_file
from ..errors import UserError
from ..modeling.mask_score import box_scores
from ..visualization.images import write_image
from .coco_file import coco_record
from .image_prediction import Prediction
from .output_files import mask_path
from .predictor import Predictor
from .result_log import ResultLog
from .video_input import Video
from .video_output import VideoOutput


@dataclass(frozen=True)
class FileResults:
    """Writes the results of files to an output folder.

    Attributes:
        predict: the model.
        folder: the output folder.
        log: what is done.
        rank_by: the score of ``min_score`` and of the records: ``"box"`` or ``"mask"``.
        min_score: draw detections with at least this score; by ``"mask"`` of a calibrated model,
            with at least this probability that the mask is correct.
        masks: also write the mask of each drawn detection.
        records: also keep all detections in the log.
        batch_size: images or frames at a time.
    """

    predict: Predictor
    folder: Path
    log: ResultLog
    rank_by: str
    min_score: float
    masks: bool
    records: bool
    batch_size: int

    def images(self, images: dict[Path, Path]) -> Iterator[tuple[Path, str | UserError | None]]:
        """Predicts images that are not done.

        Batches do not depend on which images are done, because the results for an image depend on
        its padding, and thereby on the other images of its batch.

        Args:
            images: path of the drawing in the folder by path of the image.

        Yields:
            Each image with what was drawn, the reason why nothing was, or ``None`` if it was done.
        """
        for batch in _batches(list(images), self.batch_size):
            todo = {path for path in batch if not self.log.is_done(path, str(images[path]))}
            for path in todo:
                self.log.forget(str(images[path]))
            found = self._predictions(batch) if todo else [None] * len(batch)
            for path, each in zip(batch, found):
                if path not in todo or each is None:
                    yield path, None
                elif isinstance(each, UserError):
                    yield path, each
                else:
                    yield path, self._write_image(path, images[path], each)

    def _predictions(self, batch: list[Path]) -> Iterator[Prediction | UserError]:
        try:
            yield from self.predict(batch)
        except UserError:  # of one of them
            for path in batch:
                yield self._prediction_or_error(path)

    def _prediction_or_error(self, path: Path) -> Prediction | UserError:
        try:
            return self.predict(path)
        except UserError as error:
            return error

    def _write_image(self, path: Path, name: Path, found: Prediction) -> str:
        shown, output = self._shown(found), self.folder / name
        self.log.start()
        write_image(output, shown.draw())
        files = [output, *self._write_masks(shown, output.with_suffix(""))]
        if self.records:
            self.log.add(coco_record(found, self.rank_by))
        self.log.finish(path, str(name), files)
        below = (
            f", whose highest score is {self._highest(found):.2f},"
            if len(found) and not len(shown)
            else ""
        )
        return f"drew {len(shown)} of {len(found)} detections{below} in {output}"

    def video(self, path: Path, name: Path) -> Iterator[int | str]:
        """Predicts a video frame by frame.

        Args:
            path: the video.
            name: path of the drawn video in the folder.

        Yields:
            The number of frames that the file promises, or 0; then the number of each frame, from
            0, when it is drawn; then what was drawn.

        Raises:
            UserError: if the video cannot be read at all, or not to its end. In the latter case the
                frames before are written.
        """
        output, files, drawn, length = self.folder / name, [self.folder / name], 0, 0
        error = None
        self.log.forget(str(name))
        with Video(path) as video:
            yield video.frames
            output.parent.mkdir(parents=True, exist_ok=True)
            self.log.start()
            try:
                with (
                    atomic_file(output) as file,
                    VideoOutput(file, video.rate, video.time_base) as writer,
                ):
                    frames = iter(video)
                    while error is None:
                        batch, error = _take(frames, self.batch_size)
                        found = self.predict([frame.pixels for frame in batch])
                        for frame, each in zip(batch, found):
                            shown = self._shown(each)
                            writer.add(shown.draw(enlarge=False), frame.pts)
                            base = output.with_suffix("") / f"{frame.number:06d}"
                            files += self._write_masks(shown, base)
                            if self.records:
                                facts = {"frame": frame.number, "time": frame.time}
                                self.log.add(coco_record(each, self.rank_by, **facts))
                            drawn, length = drawn + len(shown), frame.number + 1
                            yield frame.number
                        if not batch:
                            break
                    if not length:
                        raise error or UserError("no frame can be decoded")
            except OSError as full:
                raise UserError(f"cannot write '{output}': {full.strerror or full}") from full
        self.log.finish(path, str(name), files, str(error or ""))
        if error is not None:
            raise UserError(f"{error}; the frames before are drawn in '{output}'")
        yield f"drew {drawn} detections in {length} frames in {output}"

    def coco_records(self, inputs: dict[Path, Path]) -> Iterator[tuple[str, dict]]:
        """Yields a name and the record of each image and frame, in the order of the inputs.

        The name of a frame is that of its video, ``#`` and its number.
        """
        for path, name in inputs.items():
            for record in self.log.records(str(name)):
                frame = record["image"].get("frame")
                yield str(path) if frame is None else f"{path}#{frame:06d}", record

    def _shown(self, found: Prediction) -> Prediction:
        if self.rank_by == "box":
            return found.select(min_score=self.min_score)
        limit = "min_probability" if found.is_calibrated else "min_mask_score"
        return found.select(**{limit: self.min_score})

    def _highest(self, found: Prediction) -> float:
        """Returns the highest of the scores that :meth:`_shown` compares."""
        if self.rank_by == "box":
            return box_scores(found.instances).max().item()
        name = "mask_probability" if found.is_calibrated else "mask_scores"
        return found.instances.get(name).max().item()

    def _write_masks(self, shown: Prediction, base: Path) -> list[Path]:
        if not self.masks or not shown.instances.has("pred_masks"):
            return []
        masks = shown.instances.pred_masks.numpy()
        names = (mask_path(base, number) for number in count(1))
        files = []
        for mask, name in zip(masks, names):
            write_image(name, Image.fromarray(mask.astype(np.uint8) * 255))
            files.append(name)
        # An earlier run may have drawn more: its masks are not of this drawing.
        for name in takewhile(Path.is_file, names):
            name.unlink()
        return files


def _batches(paths: Sequence[Path], size: int) -> Iterator[list[Path]]:
    remaining = iter(paths)
    while batch := list(islice(remaining, size)):
        yield batch


def _take(frames: Iterator, number: int) -> tuple[list, UserError | None]:
    """Takes frames, up to one that cannot be decoded."""
    batch: list = []
    try:
        batch.extend(islice(frames, number))
    except UserError as error:
        return batch, error
    return batch, None
