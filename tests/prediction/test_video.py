"""``msrcnn predict`` on videos, which PyAV writes here."""

import contextlib
import functools
import re
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from msrcnn.errors import UserError
from msrcnn.prediction import Predictor, file_results, video_input
from msrcnn.prediction.video_input import Video
from msrcnn.prediction.video_output import VideoOutput

av = pytest.importorskip("av")

TIMES = (0, 1, 2, 5, 6, 9, 10, 11, 12, 20, 21, 22)  # of a variable frame rate, in 1/10 s


@pytest.fixture(scope="module")
def pictures(shapes_root):
    """RGB arrays of 160 x 120."""
    paths = sorted((shapes_root / "val").iterdir())
    return [np.asarray(Image.open(path).convert("RGB").resize((160, 120))) for path in paths]


@pytest.fixture
def write(tmp_path, pictures):
    """Returns a function that writes a video."""

    def write(name, *, frames=8, size=(160, 120), rate=10, times=None, rotation=None, **settings):
        path = tmp_path / name
        with av.open(str(path), "w", **settings) as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height = size
            stream.codec_context.gop_size = 3
            if times:
                stream.codec_context.time_base = Fraction(1, 10)
            if rotation:
                stream.set_display_rotation(rotation)
            for index in range(frames):
                picture = Image.fromarray(pictures[index % len(pictures)]).resize(size)
                frame = av.VideoFrame.from_image(picture)
                if times:
                    frame.pts, frame.time_base = times[index], Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="module")
def predictor(model_folder):
    return Predictor(model_folder / "model_final.pth")


@pytest.fixture
def predict(monkeypatch, run_command, tmp_path, predictor):
    """Returns a function that runs the command with a model that is loaded once."""
    monkeypatch.setattr("msrcnn.commands.predict.Predictor", lambda *a, **k: predictor)

    def predict(*arguments):
        start = ("--weights", "model.pth", "--output", tmp_path / "drawn")
        return run_command("predict", *start, *arguments)

    return predict


def read(path):
    """Returns the stream's facts, and time and pixels of each frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        return SimpleNamespace(
            codec=stream.codec_context.name,
            rate=stream.average_rate,
            times=[time for time, _ in frames],
            pixels=[pixels for _, pixels in frames],
        )


def close(one, other, limit=12):
    """Whether two pictures are the same but for the loss of two encodings."""
    return np.abs(one.astype(int) - other.astype(int)).mean() < limit


@pytest.mark.parametrize("batch_size", [1, 3])
def test_rate_size_and_records(predict, write, tmp_path, predictor, batch_size):
    video, file = write("clip.avi"), tmp_path / "found.json"
    arguments = ("--coco", file, "--batch-size", batch_size, "--min-score", 2)
    code, out, err = predict(video, *arguments)
    assert code == 0, err
    assert f"drew 0 detections in 8 frames in {tmp_path / 'drawn' / 'clip.mp4'}" in out
    drawn, source = read(tmp_path / "drawn" / "clip.mp4"), read(video)
    assert drawn.codec == "h264"
    assert drawn.rate == source.rate == 10
    assert drawn.times == pytest.approx([index / 10 for index in range(8)])
    for ours, theirs in zip(drawn.pixels, source.pixels, strict=True):
        assert ours.shape == theirs.shape
        assert close(ours, theirs)  # nothing is drawn
    found = COCO(str(file))
    images = found.dataset["images"]
    assert [image["file_name"] for image in images] == [f"{video}#{i:06d}" for i in range(8)]
    assert [image["frame"] for image in images] == list(range(8))
    assert [image["time"] for image in images] == pytest.approx(drawn.times)
    for image, pixels in list(zip(images, source.pixels))[::4]:
        expected = predictor(pixels).to_coco(image["id"])
        ours = found.imgToAnns[image["id"]]
        assert len(ours) == len(expected) > 3
        if batch_size == 1:
            assert [a["score"] for a in ours] == [a["score"] for a in expected]
            assert [a["segmentation"] for a in ours] == [a["segmentation"] for a in expected]


def test_drawings_and_masks(predict, write, tmp_path):
    video = write("clip.mp4", frames=2)
    code, out, err = predict(video, "--min-score", 0, "--masks")
    assert code == 0, err
    number = int(out.split(": drew ")[1].split()[0])
    masks = sorted((tmp_path / "drawn" / "clip").iterdir())
    assert len(masks) == number > 2
    assert masks[0].name == "000000_mask1.png"
    with Image.open(masks[0]) as mask:
        assert mask.size == (160, 120)
    drawn, source = read(tmp_path / "drawn" / "clip.mp4"), read(video)
    assert not close(drawn.pixels[0], source.pixels[0], 4)


def test_variable_rate(predict, write, tmp_path):
    video = write("clip.mkv", frames=len(TIMES), times=TIMES)
    code, _, err = predict(video, "--batch-size", 5)
    assert code == 0, err
    drawn = read(tmp_path / "drawn" / "clip.mp4")
    assert drawn.times == pytest.approx([time / 10 for time in TIMES], abs=1e-3)


def test_odd_sides_get_one_more_row_or_column(predict, write, tmp_path):
    code, _, err = predict(write("clip.avi", frames=2, size=(161, 119)), "--min-score", 2)
    assert code == 0, err
    pixels = read(tmp_path / "drawn" / "clip.mp4").pixels[0]
    assert pixels.shape == (120, 162, 3)
    assert close(pixels[-1], pixels[-2], 4)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation(write, rotation, turns):
    """Degrees counterclockwise, as OpenCV also turns it."""
    path = write("turned.mp4", rotation=rotation, frames=2)
    with Video(path) as video:
        turned = [frame.pixels for frame in video]
    upright = read(path).pixels
    for ours, stored in zip(turned, upright, strict=True):
        assert np.array_equal(ours, np.rot90(stored, turns))


def broken(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        # The table of contents comes first, so that the beginning can be read.
        ("cut.mp4", {"options": {"movflags": "faststart"}}, "breaks off after .* of 30 frames: "),
        ("cut.mkv", {}, "breaks off after .* frames: it ends at .* of 3.0 s"),
        ("cut.avi", {}, "breaks off after [0-9]+ of 30 frames"),
    ],
)
def test_a_video_that_breaks_off(predict, write, tmp_path, name, settings, message):
    whole, file = write("whole.avi", frames=2), tmp_path / "found.json"
    cut = broken(write(name, frames=30, **settings))
    code, out, err = predict(cut, whole, "--batch-size", 4, "--coco", file)
    assert code == 1
    assert err.splitlines()[-1] == "error: 1 of 2 videos are incomplete: see above"
    assert re.search(message, err)
    assert f"the frames before are drawn in '{tmp_path / 'drawn' / 'cut.mp4'}'" in err
    drawn = read(tmp_path / "drawn" / "cut.mp4")
    readable = len(list(_decodable(cut)))
    assert 3 < len(drawn.pixels) == readable < 30
    assert len(read(tmp_path / "drawn" / "whole.mp4").pixels) == 2
    assert len(COCO(str(file)).imgs) == readable + 2
    # Resuming tries it again, and leaves the other one.
    code, out, err = predict(cut, whole, "--batch-size", 4, "--coco", file, "--resume")
    assert code == 1
    assert f"{whole} was done before" in out
    assert len(COCO(str(file)).imgs) == readable + 2


def _decodable(path):
    with Video(path) as video, contextlib.suppress(UserError):
        yield from video


def test_damaged_frames_are_counted(write, monkeypatch):
    path = write("clip.avi", frames=4)
    decoded = Video._decoded

    def damaged(self):
        for number, frame in enumerate(decoded(self)):
            facts = {
                name: getattr(frame, name) for name in ("pts", "rotation", "format", "to_ndarray")
            }
            yield SimpleNamespace(is_corrupt=number == 2, **facts)

    monkeypatch.setattr(Video, "_decoded", damaged)
    seen = []
    with pytest.raises(UserError, match="1 of 4 frames are damaged"), Video(path) as video:
        seen.extend(video)
    assert len(seen) == 4


def test_frames_that_are_too_large_for_the_encoder(tmp_path):
    with (tmp_path / "large.mp4").open("wb") as file:
        output = VideoOutput(file, Fraction(25), Fraction(1, 25))
        with pytest.raises(UserError, match="cannot encode frames of 17000 x 16 pixels"), output:
            output.add(Image.new("RGB", (17000, 16)), 0)


def test_what_is_no_video(predict, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=1024)
        frame.rate = 8000
        container.mux(stream.encode(frame))
    videos = [tmp_path / name for name in ("text.mp4", "sound.mkv", "gone.mp4")]
    code, _, err = predict(*videos)
    assert code == 1
    for path, reason in zip(videos, ("Invalid data", "there are no pictures", "No such file")):
        assert f"cannot read video '{path}': {reason}" in err
    assert err.splitlines()[-1] == "error: 3 of 3 videos are incomplete: see above"
    assert not list((tmp_path / "drawn").glob("*.mp4"))


def test_without_pyav(predict, write, monkeypatch):
    video = write("clip.avi", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = predict(video)
    assert code == 1
    assert err.splitlines()[-1] == "error: videos need the package PyAV: pip install av"


def test_one_batch_is_in_memory(predict, write, tmp_path, monkeypatch):
    """The frames of the input are read as those of the output are written."""
    read_ahead, state = [], {"read": 0, "written": 0}

    class Counted(video_input.Video):
        def __iter__(self):
            for frame in super().__iter__():
                state["read"] += 1
                read_ahead.append(state["read"] - state["written"])
                yield frame

    add = file_results.VideoOutput.add

    @functools.wraps(add)
    def counted(*args):
        state["written"] += 1
        add(*args)

    monkeypatch.setattr(file_results, "Video", Counted)
    monkeypatch.setattr(file_results.VideoOutput, "add", counted)
    code, _, err = predict(write("clip.avi", frames=12), "--batch-size", 3)
    assert code == 0, err
    assert state == {"read": 12, "written": 12}
    assert max(read_ahead) == 3


def test_grey_of_16_bits_keeps_its_values(tmp_path):
    """They are for ``INPUT.VALUE_RANGE``, like those of a file."""
    grey = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint16) * 30
    path = tmp_path / "deep.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray16le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray16le")))
        container.mux(stream.encode())
    with Video(path) as video:
        (frame,) = video
    assert frame.pixels.dtype == np.uint16
    assert np.array_equal(frame.pixels, grey)


def test_grey_of_16_bits_needs_a_range(tmp_path, predictor):
    with pytest.raises(UserError, match="INPUT.VALUE_RANGE is not set"):
        predictor(np.zeros((48, 64), np.uint16))
