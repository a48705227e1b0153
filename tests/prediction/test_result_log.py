"""``msrcnn predict --resume``: the files are those of a run that was not interrupted."""

import json
import os
import shutil
import signal
import sys

import pytest
import scripts
from PIL import Image

from msrcnn.atomic_file import MACHINE, PART, atomic_file
from msrcnn.cli import main
from msrcnn.errors import UserError
from msrcnn.folder_lock import LOCK, alone_in
from msrcnn.prediction import file_results
from msrcnn.prediction.result_log import LOG, ResultLog

BATCH = ("--batch-size", "2", "--min-score", "0.1", "--masks")


@pytest.fixture
def photos(shapes_root, tmp_path):
    """Five images of different sizes, so that the batches matter."""
    root = tmp_path / "photos"
    root.mkdir()
    for number, path in enumerate(sorted((shapes_root / "val").iterdir())[:5]):
        with Image.open(path) as image:
            image.resize((image.width + 16 * number, image.height)).save(root / f"{number}.png")
    return root


def command(model_folder, photos, output, *arguments):
    model = str(model_folder / "model_final.pth")
    start = ["--weights", model, str(photos), "--output", str(output), *BATCH]
    return [*start, "--coco", str(output / "found.json"), *map(str, arguments)]


@pytest.fixture
def predict(model_folder, photos, run_command):
    """Returns a function that runs the command; its exit status and output."""

    def predict(output, *arguments):
        return run_command("predict", *command(model_folder, photos, output, *arguments))

    return predict


def contents(folder):
    """Returns the results in a folder: content by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (LOG, LOCK)
    }


def killed(arguments, writes):
    """Runs the command in a process that is killed while it writes the n-th picture."""
    process = scripts._context.Process(target=_run_until, args=(arguments, writes))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _run_until(arguments, writes):
    write, left = file_results.write_image, writes

    def write_image(path, picture):
        nonlocal left
        left -= 1
        if not left:
            with atomic_file(path) as file:
                file.write(b"half of a picture")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        write(path, picture)

    file_results.write_image = write_image
    sys.argv = ["msrcnn predict", *arguments]
    main("predict")


@pytest.mark.slow
def test_killed_and_resumed(predict, model_folder, photos, tmp_path):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    code, _, err = predict(whole)
    assert code == 0, err
    expected = contents(whole)
    drawings = sorted(name for name in expected if "_mask" not in name)
    assert drawings == [*(f"{number}.png" for number in range(5)), "found.json"]
    pictures = len(expected) - 1
    assert pictures > 8
    for writes in (2, pictures - 1):
        killed(command(model_folder, photos, resumed, "--resume"), writes)
        assert "found.json" not in contents(resumed)
    with (resumed / LOG).open("ab") as file:  # what a full disk may leave
        file.write(b'{"record": {"image"')
    code, out, err = predict(resumed, "--resume")
    assert code == 0, err
    assert out.count(": drew ") < 5
    assert contents(resumed) == expected


@pytest.mark.slow
def test_only_what_is_missing_is_done_again(predict, photos, tmp_path):
    output = tmp_path / "drawn"
    assert predict(output)[0] == 0
    expected = contents(output)
    code, out, _ = predict(output, "--resume")
    assert (code, out.count(": drew "), "5 of 5 images were done before" in out) == (0, 0, True)
    (output / "3.png").unlink()
    (output / "found.json").unlink()
    code, out, _ = predict(output, "--resume")
    assert out.count(": drew ") == 1
    assert contents(output) == expected
    changed = photos / "1.png"
    with Image.open(changed) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(changed)
    shutil.copy(photos / "0.png", photos / "5.png")
    code, out, _ = predict(output, "--resume")
    assert [line.split(":")[0] for line in out.splitlines() if ": drew " in line] == [
        str(changed),
        str(photos / "5.png"),
    ]
    assert contents(output)["1.png"] != expected["1.png"]
    assert len(json.loads((output / "found.json").read_text())["images"]) == 6
    code, _, err = predict(output, "--resume", "--rank-by", "mask")
    assert code == 1
    assert err.splitlines()[-1] == (
        f"error: '{output}' has results with another rank_by (box, now mask): choose another "
        "--output, or run without --resume to start again"
    )
    code, out, _ = predict(output, "--rank-by", "mask")  # starts again
    assert out.count(": drew ") == 6


@pytest.mark.slow
def test_an_image_that_has_become_unreadable_has_no_detections(predict, photos, tmp_path):
    output = tmp_path / "output"
    assert predict(output)[0] == 0
    (photos / "1.png").write_bytes(b"half of an image")
    code, _, err = predict(output, "--resume")
    assert code == 1, err
    images = json.loads((output / "found.json").read_text())["images"]
    assert [os.path.basename(image["file_name"])[0] for image in images] == ["0", "2", "3", "4"]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    return path


def add(log, source, name, *numbers, error=""):
    log.start()
    for number in numbers:
        log.add({"image": {"number": number}})
    (log._folder / name).write_bytes(b"drawn")
    log.finish(source, name, [log._folder / name], error)


def numbers(log, name):
    return [record["image"]["number"] for record in log.records(name)]


def test_log(tmp_path, source):
    folder, settings = tmp_path / "out", {"weights": "abc", "min_score": 0.5}
    with ResultLog(folder, settings, resume=True) as log:  # nothing to resume from
        add(log, source, "a.png", 1)
        add(log, source, "b.mp4", 2, 3)
        add(log, source, "c.mp4", 4, error="breaks off")
        log.start()
        log.add({"image": {"number": 5}})  # killed here
    with ResultLog(folder, settings, resume=True) as log:
        assert log.is_done(source, "a.png")
        assert log.is_done(source, "b.mp4")
        other = folder / source.name
        shutil.copy2(source, other)  # of the same name, size and time
        assert not log.is_done(other, "b.mp4")
        assert not log.is_done(source, "c.mp4")
        assert not log.is_done(source, "d.png")
        assert (numbers(log, "a.png"), numbers(log, "b.mp4")) == ([1], [2, 3])
        add(log, source, "c.mp4", 6, 7)
        assert numbers(log, "c.mp4") == [6, 7]
        assert numbers(log, "d.png") == []
        (folder / "a.png").unlink()
        assert not log.is_done(source, "a.png")
        source.write_bytes(b"12")
        assert not log.is_done(source, "b.mp4")
    for key, value in (("weights", "x"), ("min_score", 0.25), ("new", 1)):
        with pytest.raises(UserError, match=f"results with another {key} "):
            ResultLog(folder, {**settings, key: value}, resume=True)
    with ResultLog(folder, {"other": 1}, resume=False) as log:
        assert not log.is_done(source, "c.mp4")


def test_an_input_that_has_changed_is_done_again(tmp_path, source):
    before = source.stat().st_mtime_ns
    with ResultLog(tmp_path / "out", {}, resume=False) as log:
        add(log, source, "a.png")
        for content, time, done in (
            (b"12", before, False),
            (b"2", before + 1, False),
            (b"1", before, True),
        ):
            source.write_bytes(content)
            os.utime(source, ns=(time, time))
            assert log.is_done(source, "a.png") == done


def test_what_is_done_is_in_the_file_at_once(tmp_path, source):
    """A process may be killed before it closes the file."""
    with ResultLog(tmp_path / "out", {}, resume=False) as log:
        for name in ("a.png", "b.png"):
            add(log, source, name, 1)
            last = (tmp_path / "out" / LOG).read_text().splitlines()[-1]
            assert json.loads(last)["done"] == name


def test_what_a_killed_process_has_half_written_is_removed(tmp_path, source):
    folder = tmp_path / "out"
    (folder / "more").mkdir(parents=True)
    with ResultLog(folder, {}, resume=False) as log:
        add(log, source, "more/a.png", 1)
    parts = [
        place / f".b.png.{MACHINE}.{os.getpid()}.0123abcd.part"
        for place in (folder, folder / "more")
    ]
    for part in parts:
        part.touch()
        assert PART.fullmatch(part.name)
    ResultLog(folder, {}, resume=True).__exit__()
    assert not any(part.exists() for part in parts)
    assert (folder / "more" / "a.png").exists()


def test_records_of_an_input_that_failed_are_not_those_of_the_next(tmp_path, source):
    with ResultLog(tmp_path, {}, resume=False) as log:
        add(log, source, "a.png", 1)
        log.start()
        log.add({"image": {"number": 2}})  # then its drawing could not be written
        add(log, source, "c.mp4", 3)
        assert numbers(log, "c.mp4") == [3]
    with ResultLog(tmp_path, {}, resume=True) as log:
        assert (numbers(log, "a.png"), numbers(log, "c.mp4")) == ([1], [3])


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_one_process_at_a_time(predict, tmp_path, resume):
    with alone_in(tmp_path / "drawn", "--output"):
        code, _, err = predict(tmp_path / "drawn", *resume)
    assert code == 1
    assert f"another process writes its results to '{tmp_path / 'drawn'}': wait for it" in err
    assert not (tmp_path / "drawn" / LOG).exists()


def test_a_log_that_cannot_be_opened(tmp_path, monkeypatch):
    ResultLog(tmp_path, {}, resume=False).__exit__()

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "open", denied)
    with pytest.raises(UserError, match=f"cannot write '.*{LOG}': Permission denied"):
        ResultLog(tmp_path, {}, resume=True)


@pytest.mark.parametrize("content", ["", "{}\n", "[]\n", "no JSON\n", '{"settings": {}}'])
def test_a_damaged_log(tmp_path, content):
    (tmp_path / LOG).write_text(content)
    with pytest.raises(UserError, match=f"{LOG}' is damaged: remove it"):
        ResultLog(tmp_path, {}, resume=True)


def test_a_log_that_breaks_off_anywhere(tmp_path, source):
    folder = tmp_path / "out"
    with ResultLog(folder, {}, resume=False) as log:
        add(log, source, "a.png", 1)
        add(log, source, "b.mp4", 2, 3)
    content = (folder / LOG).read_bytes()
    ends = [index + 1 for index, byte in enumerate(content) if byte == ord("\n")]
    for length in range(ends[0], len(content) + 1):
        (folder / LOG).write_bytes(content[:length])
        with ResultLog(folder, {}, resume=True) as log:
            assert log.is_done(source, "a.png") == (length >= ends[2])
            assert log.is_done(source, "b.mp4") == (length == len(content))
            add(log, source, "c.png", 4)
            assert numbers(log, "c.png") == [4]
            assert numbers(log, "a.png") == ([1] if length >= ends[2] else [])
        with ResultLog(folder, {}, resume=True) as log:  # nothing of the rest is left
            assert numbers(log, "c.png") == [4]
