"""``msrcnn predict``, in this process."""

import re
import shutil

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from pycocotools.coco import COCO

from msrcnn.errors import UserError
from msrcnn.prediction.find_inputs import find_inputs
from msrcnn.prediction.output_files import check_outputs


@pytest.fixture
def photos(shapes_root, tmp_path):
    """Four images in a folder, one of them in a folder of its own."""
    root = tmp_path / "photos"
    (root / "more").mkdir(parents=True)
    images = sorted((shapes_root / "val").iterdir())[:4]
    for image in images[:3]:
        shutil.copy(image, root)
    shutil.copy(images[3], root / "more")
    (root / "notes.txt").write_text("no image")
    return root


@pytest.fixture
def predict(model_folder, run_command, tmp_path):
    """Returns a function that runs the command; its exit status and output."""

    def predict(*arguments):
        model, folder = model_folder / "model_final.pth", tmp_path / "drawn"
        return run_command("predict", "--weights", model, "--output", folder, *arguments)

    return predict


def drawn(tmp_path):
    root = tmp_path / "drawn"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


def test_a_folder(predict, photos, tmp_path):
    code, out, err = predict(photos)
    assert code == 0, err
    names = sorted(path.stem for path in photos.glob("*.jpg"))
    (deeper,) = (photos / "more").iterdir()
    assert drawn(tmp_path) == [*(f"{name}.png" for name in names), f"more/{deeper.stem}.png"]
    assert out.count(": drew ") == 4


def test_unreadable_images_are_skipped_and_counted(predict, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"nothing")
    Image.fromarray(np.zeros((1, 4000, 3), np.uint8)).save(photos / "narrow.png")
    code, out, err = predict(photos, "--batch-size", 4)
    assert code == 1
    assert f"skipped '{photos / 'broken.jpg'}': cannot read image" in err
    assert f"skipped '{photos / 'narrow.png'}': an image of 4000 x 1 cannot be resized" in err
    assert err.splitlines()[-1] == "error: 2 of 6 images were skipped: see above"
    assert len(drawn(tmp_path)) == out.count(": drew ") == 4


@pytest.mark.parametrize("rank_by", ["box", "mask"])
def test_coco_file(predict, photos, tmp_path, rank_by):
    file = tmp_path / "found.json"
    code, _, err = predict(photos, "--coco", file, "--rank-by", rank_by, "--min-score", 2)
    assert code == 0, err
    found = COCO(str(file))
    assert len(found.imgs) == 4
    assert len(found.anns) > 10
    for annotation in found.anns.values():
        image = found.imgs[annotation["image_id"]]
        rle = annotation["segmentation"]
        assert rle["size"] == [image["height"], image["width"]]
        assert annotation["area"] == mask_util.area(rle)
        assert annotation["score"] == annotation[f"{rank_by}_score"]
        assert annotation["category_id"] in found.cats
    ids = [annotation["id"] for annotation in found.dataset["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_masks_of_what_is_drawn(predict, photos, tmp_path):
    image = sorted(photos.glob("*.jpg"))[0]
    flags = ("--masks", "--rank-by", "mask", "--coco", tmp_path / "found.json")
    code, out, err = predict(image, *flags, "--min-score", 0.01)
    assert code == 0, err
    shown = int(out.split(": drew ")[1].split(" of ")[0])
    names = drawn(tmp_path)
    assert names[0] == f"{image.stem}.png"
    assert names[1:] == sorted(f"{image.stem}_mask{n}.png" for n in range(1, shown + 1))
    found = COCO(str(tmp_path / "found.json")).anns.values()
    above = [each for each in found if each["score"] >= 0.01]
    assert len(above) == shown > 1
    for n, annotation in enumerate(above, start=1):
        mask = np.asarray(Image.open(tmp_path / "drawn" / f"{image.stem}_mask{n}.png"))
        np.testing.assert_array_equal(mask, 255 * mask_util.decode(annotation["segmentation"]))
    assert predict(image, *flags, "--min-score", 1)[0] == 0
    assert drawn(tmp_path) == [f"{image.stem}.png"], "the masks of the earlier drawing are gone"


def test_nothing_to_draw_is_told(predict, photos):
    image = sorted(photos.glob("*.jpg"))[0]
    _, out, _ = predict(image, "--min-score", 0.01)
    assert "highest" not in out
    for rank_by in ("box", "mask"):
        code, out, _ = predict(image, "--min-score", 2, "--rank-by", rank_by)
        assert code == 0
        assert re.search(r"drew 0 of [1-9]\d* detections, whose highest score is 0\.\d\d, in ", out)


def test_results_of_another_input_are_not_overwritten(predict, photos, tmp_path):
    image = sorted(photos.glob("*.jpg"))[0]
    other = tmp_path / "camera 2" / image.name
    other.parent.mkdir()
    shutil.copy(image, other)
    assert predict(image)[0] == predict(image)[0] == 0
    for flags in ([], ["--resume"]):
        code, _, err = predict(other, *flags)
        assert code == 1
        assert f"{image.stem}.png' is the result of '{image}', and that of '{other}' would" in err
    (tmp_path / "drawn" / f"{image.stem}.png").unlink()
    assert predict(other)[0] == 0


def test_a_file_of_the_user_is_not_overwritten(predict, photos, tmp_path):
    image = sorted(photos.glob("*.jpg"))[0]
    own = tmp_path / "drawn" / f"{image.stem}.png"
    own.parent.mkdir()
    own.write_bytes(b"own")
    code, _, err = predict(image)
    assert (code, own.read_bytes()) == (1, b"own")
    assert f"'{own}' is there already, and not from this command" in err


def test_an_input_is_not_overwritten(predict, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "drawn")
    for path in (tmp_path / "drawn").rglob("*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    code, _, err = predict(*(tmp_path / "drawn").glob("*.png"))
    assert code == 1
    assert "would overwrite" in err
    code, _, err = predict(tmp_path / "drawn")
    assert code == 1
    assert "the drawings would be images of the next run" in err


def test_coco_does_not_overwrite_an_image(predict, photos):
    first, *others = sorted(photos.glob("*.jpg"))
    before = first.read_bytes()
    code, _, err = predict("--coco", first, *others)
    assert (code, err) == (1, f"error: --coco '{first}': the file name must end in .json\n")
    assert first.read_bytes() == before


def test_a_mask_does_not_overwrite_a_drawing(predict, photos):
    image = next(photos.glob("*.jpg"))
    mask = photos / f"{image.stem}_mask1.jpg"
    shutil.copy(image, mask)
    code, _, err = predict(photos, "--masks")
    assert code == 1
    assert f"the drawing of '{mask}' and a mask of '{image}' would both be" in err
    check_outputs({image: image.with_suffix(".png"), mask: mask.with_suffix(".png")})
    check_outputs({mask: mask.with_suffix(".png")}, masks=True)


def test_patterns_and_mistakes(photos, tmp_path):
    found = find_inputs([str(photos / "*.jpg")])
    assert sorted(found) == sorted(photos.glob("*.jpg"))
    missing = tmp_path / "missing.jpg"
    assert list(find_inputs([str(missing)])) == [missing]  # reported when it is read
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", photos / "*.bmp"):
        with pytest.raises(UserError, match="there is no image"):
            find_inputs([str(nothing)])
    image = sorted(photos.glob("*.jpg"))[0]
    (photos / "copy").mkdir()
    shutil.copy(image, photos / "copy")
    with pytest.raises(UserError, match=f"would both be drawn in .*: give the folder '{photos}'"):
        find_inputs([str(image), str(photos / "copy" / image.name)])
    with pytest.raises(UserError, match="'http://host/a.jpg' is a URL: download"):
        find_inputs(["http://host/a.jpg"])


def test_an_output_folder_inside_the_images_is_no_input(photos):
    drawings, images = photos / "more" / "drawn", sorted(photos.rglob("*.jpg"))
    drawings.mkdir()
    Image.open(images[0]).save(drawings / f"{images[0].stem}.png")
    for folder in (photos, photos / "more" / ".."):
        found = find_inputs([str(folder)], drawings)
        assert sorted(path.resolve() for path in found) == images
    with pytest.raises(UserError, match="--output is .* itself"):
        find_inputs([str(photos)], photos)


def test_an_empty_input_is_not_the_current_folder():
    with pytest.raises(UserError, match="an INPUT is empty"):
        find_inputs([""])


def test_files_that_differ_in_their_extension(photos):
    image, other, *_ = sorted(photos.glob("*.jpg"))
    same_name = photos / f"{image.stem}.png"
    Image.open(image).save(same_name)
    outputs = {path.name: str(output) for path, output in find_inputs([str(photos)]).items()}
    assert outputs[image.name] == f"{image.name}.png"
    assert outputs[same_name.name] == f"{same_name.name}.png"
    assert outputs[other.name] == f"{other.stem}.png"


def test_ranking_by_mask_needs_mask_scores(run_command, model_folder, photos, tmp_path):
    model = model_folder / "plain" / "model_final.pth"
    command = ("predict", "--weights", model, "--output", tmp_path / "drawn", "--rank-by", "mask")
    code, _, err = run_command(*command, photos)
    assert code == 1
    assert "--rank-by mask: the model has no mask scores" in err
    assert not (tmp_path / "drawn").exists()
