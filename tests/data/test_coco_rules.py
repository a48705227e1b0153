import copy
import json
import re
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from changed_copy import changed_copy
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import PolygonMasks
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from msrcnn.data.coco_rules import check_coco, mask_format
from msrcnn.data.custom import parse_data_flag
from msrcnn.data.mapper import MaskScoringDatasetMapper
from msrcnn.data.mask_extents import mask_extents
from msrcnn.data.registered import image_root
from msrcnn.data.repair import repaired
from msrcnn.data.rle_counts import rle_counts
from msrcnn.errors import UserError
from msrcnn.evaluation import Detections, EvaluationSettings, evaluate_detections, load_ground_truth

POLYGON = [[1, 1, 9, 1, 9, 9, 1, 9]]
VALID = {
    "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 3, "bbox": [1, 1, 8, 8], "segmentation": POLYGON},
        {"id": 6, "image_id": 7, "category_id": 3, "bbox": [1, 1, 8, 8], "segmentation": POLYGON},
        {"id": 7, "image_id": 7, "category_id": 3, "bbox": [1, 1, 8, 8], "segmentation": POLYGON},
    ],
}
NAN, ANNOTATION = float("nan"), ("annotations", 0)


@pytest.fixture
def images(tmp_path):
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    return tmp_path


def changed(path, value, content=VALID):
    return changed_copy(content, path, value)


def every(key, value):
    """Returns a copy with a value of every annotation replaced."""
    content = copy.deepcopy(VALID)
    for annotation in content["annotations"]:
        annotation[key] = value
    return content


def rle(*counts, size=(10, 20)):
    return {"size": list(size), "counts": list(counts)}


def test_valid_file(images):
    assert check_coco(VALID, images) == []
    assert check_coco(changed(("annotations",), ...), images, training=False) == []


STOPS = [
    (("annotations",), ..., "'annotations' is missing or is not a list"),
    (("annotations",), [], "no instance to train on: 'annotations' is empty"),
    (("categories",), [], "'categories' is empty"),
    (("images",), [], "'images' is empty"),
    (("images",), [1], "image at index 0 is not a JSON object"),
    (("images", 0, "id"), "img1", "image img1: id is 'img1'; it must be a whole number"),
    (("images", 0, "height"), ..., "image 7 has no 'height'"),
    (("images", 0, "width"), "20", "image 7: width is '20'; it must be a whole number"),
    (("images", 0, "width"), 0, "image 7: width is 0; it must be above 0"),
    (("images", 0, "file_name"), None, "image 7: file_name is null; it must be a string"),
    (("images", 0, "file_name"), "", "image 7: file_name is ''; it must be a nonempty string"),
    (("images", 0, "file_name"), "b.jpg", "image 7: .*b.jpg' does not exist"),
    *(
        (("images", 0, "file_name"), name, "image 7: its file name .* leads out of the image dir")
        for name in (
            "../a.png",
            "a/../../a.png",
            "/etc/a.png",
            "..\\a.png",
            "C:\\a.png",
            "\\\\b\\a",
        )
    ),
    (("images",), VALID["images"] * 2, "image id 7 is used more than once"),
    (("categories", 0, "name"), ..., "category 3 has no 'name'"),
    (("categories", 0, "name"), 7, "category 3: name is 7; it must be a string"),
    (
        ("categories",),
        [{"id": i, "name": "cat"} for i in (3, 4)],
        "category name 'cat' is used more than once",
    ),
    ((*ANNOTATION, "segmentation"), ..., "annotation 5 has no 'segmentation'"),
    (("images", 0, "file_name"), "b/A.PNG", "b/A.PNG' does not exist, but '.*/a.png' does; fix"),
    ((*ANNOTATION, "id"), ..., "annotation at index 0 has no 'id'"),
    ((*ANNOTATION, "id"), 6, "annotation id 6 is used more than once"),
    ((*ANNOTATION, "image_id"), 8, "annotation 5: image_id 8 is not the id of an image"),
    ((*ANNOTATION, "category_id"), 0, "annotation 5: category_id 0 is not the id of a category"),
    ((*ANNOTATION, "category_id"), [3], r"annotation 5: category_id is \[3\]; it must be a whole"),
    ((*ANNOTATION, "iscrowd"), "0", "annotation 5: iscrowd is '0'; it must be 0 or 1"),
    ((*ANNOTATION, "ignore"), 1, "annotation 5: ignore is 1; it must be 0"),
    ((*ANNOTATION, "bbox"), "1 1 8 8", "annotation 5: bbox is '1 1 8 8'; it must be a list"),
    ((*ANNOTATION, "bbox"), [1, 1, 8], r"it must be \[x, y, width, height\]"),
    ((*ANNOTATION, "bbox"), [NAN, 1, 8, 8], r"annotation 5: bbox\[0\] is nan; .* a finite number"),
    ((*ANNOTATION, "bbox"), [1, 1, 8, float("inf")], r"bbox\[3\] is inf; .* a finite number"),
    ((*ANNOTATION, "bbox"), [1, 1, 9e6, 8], "annotation 5: has coordinates far outside its image"),
    ((*ANNOTATION, "area"), -5, r"annotation 5: area -5 does not fit its mask, .* leave it out"),
    ((*ANNOTATION, "area"), 1e300, "annotation 5: area 1e[+]?300 does not fit its mask"),
    ((*ANNOTATION, "segmentation"), [], "a list of polygons .* with at least three points"),
    ((*ANNOTATION, "segmentation"), [[1, 1, 9, 9]], "with at least three points"),
    ((*ANNOTATION, "segmentation"), [[1, 1, 9, 1, 9, 9, 4]], "odd number of values"),
    ((*ANNOTATION, "segmentation"), [[1, None, 9, 1, 9, 9]], r"segmentation\[0\]\[1\] is null"),
    ((*ANNOTATION, "segmentation"), [[1, "1", 9, 1, 9, 9]], "is '1'; it must be a number"),
    ((*ANNOTATION, "segmentation"), [[50, 50, 60, 50, 60, 60]], "mask lies outside its image 7"),
    ((*ANNOTATION, "segmentation"), {"size": [10, 20]}, "segmentation has no 'counts'"),
    ((*ANNOTATION, "segmentation"), rle(200, size=(20, 10)), r"size \[20, 10\], but .* \[10, 20\]"),
    ((*ANNOTATION, "segmentation"), {**rle(200), "size": 200}, "size is 200; it must be a list"),
    ((*ANNOTATION, "segmentation"), rle(100, 50), "add up to 150, but its image has 200 pixels"),
    ((*ANNOTATION, "segmentation"), rle(100, 500), "add up to 600, but its image has 200 pixels"),
    ((*ANNOTATION, "segmentation"), rle(200), "annotation 5: its RLE mask is empty"),
    ((*ANNOTATION, "segmentation"), {**rle(), "counts": "no RLE"}, "RLE segmentation are damaged"),
    ((*ANNOTATION, "segmentation"), {**rle(), "counts": ""}, "RLE segmentation are damaged"),
]


@pytest.mark.parametrize(("path", "value", "message"), STOPS)
def test_problem_that_stops_is_named_with_its_record(images, path, value, message):
    finding, *_ = check_coco(changed(path, value), images)
    assert finding.stops
    assert len(finding.messages) == 1
    assert re.search(message, finding.messages[0])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bbox", [1, 1, 0, 8], "width and height above 0"),
        ("bbox", [15, 1, 2, 2], r"bbox \[15, 1, 2, 2\] does not fit its mask, which is in \[1"),
        ("segmentation", [[1, 1, 9, 9, 5, 5]], "a polygon of its mask has no area"),
        ("segmentation", [[1, 1, 24, 1, 24, 9, 1, 9]], r"leaves its image 7 \(20 x 10\)"),
    ],
)
def test_what_few_records_show_is_a_warning(images, key, value, message):
    findings = check_coco(changed((*ANNOTATION, key), value), images)
    assert not any(finding.stops for finding in findings)
    assert any(re.search(message, m) for finding in findings for m in finding.messages)


@pytest.mark.parametrize("name", ["Cat", "cat ", "CAT"])
def test_classes_that_differ_in_their_spelling(images, name):
    content = changed(("categories",), [*VALID["categories"], {"id": 4, "name": name}])
    (finding,) = check_coco(content, images)
    assert not finding.stops
    (message,) = finding.messages
    assert message.startswith(f"category 4: '{name}' and 'cat' differ only in their spelling")


@pytest.mark.parametrize(("area", "fits"), [(0, False), (0.5, True), (32, True), (33, False)])
def test_an_area_of_more_than_the_box_is_a_warning(images, area, fits):
    """The area of the polygons, of their pixels, and that of the box differ."""
    small = {"bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]], "area": area}
    content = changed(ANNOTATION, {**VALID["annotations"][0], **small})
    for masks in ({}, {"segmentation": []}):
        content["annotations"][0] |= masks
        findings = check_coco(content, images, training=False)
        assert not any(finding.stops for finding in findings)
        assert len(findings) == (0 if fits else 1)


def test_an_area_that_is_impossible_is_named_once(images):
    content = changed((*ANNOTATION, "area"), -5)
    assert len(check_coco(content, images)) == 1
    content["annotations"][0]["segmentation"] = rle(200)
    (finding,) = check_coco(content, images)
    assert finding.messages == ["annotation 5: its RLE mask is empty"]


def test_the_area_of_a_mask_without_one_is_0(images):
    content = changed((*ANNOTATION, "segmentation"), [[1, 1, 9, 9, 5, 5]])
    content["annotations"][0]["area"] = 0
    (finding,) = check_coco(content, images)
    assert "a polygon of its mask has no area" in finding.messages[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (every("segmentation", []), "none of the 3 instances .*: they are boxes, but masks"),
        (every("bbox", [1, 1, 0, 8]), "nearly all others, must be .* above 0"),
        (every("bbox", [1, 1, 1, 1]), "compute them again from the masks"),
        (
            every("segmentation", [[8, 4, 18, 4, 18, 9, 8, 9]])
            | {
                "annotations": [
                    {**a, "segmentation": [[8, 4, 18, 4, 18, 9, 8, 9]], "bbox": [8, 4, 18, 9]}
                    for a in VALID["annotations"]
                ]
            },
            r"they are \[x0, y0, x1, y1\]; COCO's are",
        ),
        (every("segmentation", [[4, 4, 80, 4, 80, 40]]), "up to 4 times its size: .* larger"),
        (every("segmentation", [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]), "fractions of the image"),
    ],
)
def test_systematic_mistakes_stop_with_their_cause(images, content, message):
    (finding,) = check_coco(content, images)
    assert finding.stops
    assert re.search(message, finding.messages[0])


@pytest.mark.parametrize("flag", [".", "./"])
def test_the_working_directory_is_an_image_folder_like_any_other(images, flag, monkeypatch):
    (images / "a.json").touch()
    monkeypatch.chdir(images)
    content = changed(("images", 0, "file_name"), str(images / "a.png"))
    MetadataCatalog.get("in_working_directory").image_root = "."
    for folder in (parse_data_flag(f"a.json:{flag}")[1], image_root("in_working_directory")):
        (finding,) = check_coco(content, folder)
        assert "leads out" in finding.messages[0]
    MetadataCatalog.pop("in_working_directory")
    assert check_coco(content, Path()) == []  # of a Python function


def test_links_and_folders_in_the_image_folder_are_followed(images):
    (images / "train").mkdir()
    (images / "train" / "..b.png").symlink_to(images / "a.png")
    assert check_coco(changed(("images", 0, "file_name"), "train/..b.png"), images) == []


def test_a_file_of_two_images_is_named(images):
    """Of a file that was merged from several: each image has a part of the annotations."""
    content = changed(("images",), [VALID["images"][0], {**VALID["images"][0], "id": 8}])
    (finding,) = check_coco(content, images)
    assert not finding.stops
    assert finding.messages == [
        "image 8: its file 'a.png' is that of image 7, too; list it once, with all its annotations"
    ]


def test_only_crowds_leave_nothing_to_train_on(images):
    content = every("iscrowd", 1)
    (finding,) = check_coco(content, images)
    assert finding.messages == ["no instance to train on: all 3 annotations are crowds"]
    assert check_coco(content, images, training=False) == []


@pytest.mark.parametrize("segmentation", [..., []])
def test_a_crowd_without_a_mask_is_a_warning_if_others_have_masks(images, segmentation):
    content = changed((*ANNOTATION, "segmentation"), segmentation)
    content["annotations"][0]["iscrowd"] = 1
    (finding,) = check_coco(content, images)
    assert not finding.stops
    (message,) = finding.messages
    assert re.match(
        "annotation 5: it is a crowd without 'segmentation', .* give it a mask", message
    )
    content["annotations"] = [
        {key: each[key] for key in each if key != "segmentation"} for each in content["annotations"]
    ]
    assert check_coco(content, images, training=False) == []


def test_problems_are_listed_by_record_and_kind(images):
    content = changed((*ANNOTATION, "bbox"), [NAN, NAN, 8, 8])
    content["annotations"][1]["category_id"] = "3"
    (finding,) = check_coco(content, images)
    assert [message.split(":")[0] for message in finding.messages] == [
        "annotation 5",
        "annotation 6",
    ]


def test_mask_format():
    assert mask_format(VALID) == "polygon"
    content = changed((*ANNOTATION, "segmentation"), rle(0, 200))
    assert mask_format(content) == "bitmask"
    content["annotations"][0]["iscrowd"] = 1
    assert mask_format(content) == "polygon"  # crowds are not trained on
    assert mask_format({"images": []}) == "polygon"


SMALL_MASKS = arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)
)


@given(st.lists(SMALL_MASKS, min_size=1, max_size=4), st.data())
def test_boxes_of_rle_agree_with_pycocotools(masks, data):
    """Of masks of all kinds that are read together."""
    encoded = [mask_util.encode(np.asfortranarray(mask)) for mask in masks]
    compressed = [each["counts"].decode() for each in encoded]
    values, numbers, damaged = rle_counts(compressed)
    assert not damaged.any()
    counts = np.split(values, np.cumsum(numbers)[:-1])
    records, sizes = [], {}
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(
            np.repeat(np.arange(numbers[i]) % 2, counts[i]), mask.flatten(order="F")
        )
        of_mask = data.draw(st.sampled_from([compressed[i], counts[i].tolist()]))
        rle = {"size": list(mask.shape), "counts": of_mask}
        records.append({"id": i, "image_id": i, "segmentation": rle})
        sizes[i] = mask.shape[::-1]
    extents = mask_extents(records, sizes)
    assert extents.damaged == {}
    assert extents.empty_rle.tolist() == [not mask.any() for mask in masks]
    for i, mask in enumerate(masks):
        x, y, w, h = mask_util.toBbox(encoded[i]) if mask.any() else (0, 0, 0, 0)
        assert extents.boxes[i].tolist() == [x, y, x + w, y + h]


@given(st.lists(st.text(max_size=12) | st.text("0123PQo`k", max_size=20), max_size=4))
def test_texts_are_run_lengths_or_damaged(texts):
    """A damaged one does not change what is read of the others."""
    values, numbers, damaged = rle_counts(texts)
    counts = np.split(values, np.cumsum(numbers)[:-1]) if texts else []
    for i, text in enumerate(texts):
        (alone,) = rle_counts([text])[2]
        assert damaged[i] == alone
        if not alone:
            assert counts[i].min() >= 0
            np.testing.assert_array_equal(counts[i], rle_counts([text])[0])


POLYGONS = st.lists(
    st.lists(st.tuples(*[st.integers(-3, 30)] * 2), min_size=3, max_size=6), min_size=1, max_size=3
)


CLOCKWISE = [(0, 0), (0, 4), (4, 4), (4, 0)]


@example([[CLOCKWISE, CLOCKWISE[::-1]]])  # whose signed areas add up to 0
@given(st.lists(POLYGONS, min_size=1, max_size=4))
def test_boxes_and_areas_of_polygons(masks):
    """Of several masks of several polygons each, which are read together."""
    records = [
        {"id": i, "image_id": 0, "segmentation": [np.ravel(p).tolist() for p in mask]}
        for i, mask in enumerate(masks)
    ]
    extents = mask_extents(records, {0: (30, 30)})
    for i, mask in enumerate(masks):
        points = np.concatenate([np.array(polygon) for polygon in mask])
        assert extents.boxes[i].tolist() == [*points.min(axis=0), *points.max(axis=0)]
        assert extents.flat[i] == (PolygonMasks([records[i]["segmentation"]]).area()[0] == 0)


ODD = st.sampled_from(
    [
        *(
            None,
            True,
            -1,
            0,
            1.0,
            0.5,
            "",
            "1",
            "a.png",
            "\ud800",
            "a\0b",
            "x" * 5000,
            [],
            {},
            [[]],
        ),
        *(10**400, -(10**400), 2**63, 2**31, 1e308, NAN, float("inf"), [NAN] * 4, [[1e308] * 6]),
        *([[0] * 6], [[1, 1, 2, 2]], [[1, 1, 9, 1, 9]], [[-100, -100, 1900, -100, 1900, 1900]]),
        *(rle(0, 200), rle(200), rle(2**63, 0), rle(-1, 201), rle(2**32, 0), rle(size=(2**31, 1))),
        *({"size": [10, 20], "counts": text} for text in ("", "`" * 9, "oo", "\ud800", "T60")),
    ]
)
PLACES = st.sampled_from(
    [
        *((kind,) for kind in ("images", "categories", "annotations")),
        *(("images", 0, key) for key in ("id", "file_name", "width", "height", "coco_url")),
        *(("images", 0, f"{which}_category_ids") for which in ("neg", "not_exhaustive")),
        *(("categories", 0, key) for key in ("id", "name", "frequency", "supercategory")),
        *((*ANNOTATION, key) for key in ("id", "image_id", "category_id", "bbox", "iscrowd")),
        *((*ANNOTATION, key) for key in ("segmentation", "area", "keypoints", "score", "ignore")),
    ]
)


@example((*ANNOTATION, "segmentation"), [[1e308] * 6])  # NumPy warns when it rounds them
@given(PLACES, ODD)
def test_whatever_passes_can_be_loaded_mapped_and_evaluated(tmp_path_factory, place, value):
    """And everything else is a finding; what remains after a repair is, too."""
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    content = changed(place, value)
    try:
        fixed, _ = repaired(content, folder)
    except UserError:  # no lists
        fixed = None
    for each in (content, fixed):
        if any(finding.stops for finding in check_coco(each, folder)):
            continue
        path = folder / "a.json"
        path.write_text(json.dumps(each))
        for record in load_coco_json(str(path), str(folder)):
            for used in {mask_format(each), "bitmask"}:
                MaskScoringDatasetMapper(
                    is_train=True,
                    augmentations=[],
                    image_format="RGB",
                    use_instance_mask=True,
                    instance_mask_format=used,
                )(record)
        register_coco_instances("fuzz", {}, str(path), str(folder))
        try:
            ground_truth = load_ground_truth("fuzz")
        finally:
            DatasetCatalog.remove("fuzz")
            MetadataCatalog.remove("fuzz")
        evaluate_detections(ground_truth, Detections.nothing(), EvaluationSettings(bootstrap=0))


@pytest.mark.parametrize("name", ["coco", "nuclei", "ccp", "animals"])
def test_real_data_have_no_problems(request, name):
    root = request.getfixturevalue("coco_root" if name == "coco" else "nuclei_root")
    root = root if name in ("coco", "nuclei") else root.parent / name
    if not root.is_dir():
        pytest.skip(f"no data set {name}")
    annotations, folder = {
        "coco": (root / "annotations" / "instances_val2017.json", root / "val2017"),
    }.get(name, (root / "val.json", root / "val"))
    assert check_coco(json.loads(annotations.read_text()), folder) == []


def test_image_files_are_opened(images):
    def problem(**record):
        content = copy.deepcopy(VALID)
        content["images"][0].update(record)
        (finding,) = check_coco(content, images)
        (message,) = finding.messages
        assert finding.stops
        return message

    Image.new("RGB", (10, 20)).save(images / "swapped.png")
    assert re.search(
        r"10 x 20 pixels, but .* 20 x 10: width and height", problem(file_name="swapped.png")
    )
    Image.new("RGB", (21, 10)).save(images / "other.png")
    assert "21 x 10 pixels" in problem(file_name="other.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(images / "turned.jpg", exif=exif)
    assert "turned by its EXIF data, after which it has 10 x 20" in problem(file_name="turned.jpg")
    Image.new("I;16", (20, 10)).save(images / "deep.png")
    assert "more than 8 bits" in problem(file_name="deep.png")
    (images / "empty.png").touch()
    assert "empty.png' cannot be read as an image (it is empty)" in problem(file_name="empty.png")
    (images / "text.png").write_text("no image")
    assert "cannot be read as an image" in problem(file_name="text.png")


def test_image_that_exif_turns_into_the_annotated_size_is_fine(images):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 20)).save(images / "turned.jpg", exif=exif)
    assert check_coco(changed(("images", 0, "file_name"), "turned.jpg"), images) == []


CASES = Path(__file__).parents[3] / "shared" / "cases"
# Of the cases in shared/cases, what the first finding says.
EXPECTED = {
    "all_crowd": "all 18 annotations are crowds",
    "annotated_at_4x": "leave their image",
    "base": None,
    "base3": None,
    "bbox_nan_xy": "annotation 2: bbox",
    "bbox_xyxy": "they are .x0, y0, x1, y1",
    "cat_id_list": "annotation 2: category_id",
    "crowd_string": "annotation 1: iscrowd is '0'",
    "dup_ann_ids": "annotation id 2 is used more than once",
    "empty_png": "4.png' cannot be read as an image .it is empty",
    "exif_raw": "turned by its EXIF data",
    "filename_empty": "image 1: file_name",
    "filename_null": "image 1: file_name",
    "gray16": "more than 8 bits",
    "int_cat_name": "category 1: name is 7",
    "no_anns": "no instance to train on",
    "no_images": "'images' is empty",
    "part_crowd_string": "iscrowd is '0'",
    "perm_classes": None,
    "poly_nan": "annotation 2: segmentation.* is nan",
    "poly_null": "annotation 2: segmentation.* is null",
    "poly_outside_only": "annotation 2: its mask lies outside",
    "poly_strings": "annotation 1: segmentation.* must be a number",
    "rle_all_zero": "annotation 2: its RLE mask is empty",
    "rle_bad_string": "annotation 2: the counts",
    "rle_bad_sum": "annotation 2: .* add up to 153",
    "rle_size_int": "annotation 2: segmentation.size",
    "rle_too_long": "annotation 2: .* add up to 900150",
    "size_string": "image 1: width",
    "size_swapped": "160 x 96 pixels, but the annotations say 96 x 160",
    "string_cat_ids": "category 1: id is '1'",
    "string_image_ids": "image img1: id is 'img1'",
    "trunc_png": "4.png' cannot be read",
}


@pytest.mark.parametrize(("case", "message"), EXPECTED.items())
def test_reported_cases(case, message):
    if not CASES.is_dir():
        pytest.skip("no ../shared/cases")
    content = json.loads((CASES / case / "ann.json").read_text())
    folder = CASES / case / "img"
    findings = check_coco(content, folder if folder.is_dir() else CASES / "base" / "img")
    if message is None:
        assert findings == []
    else:
        assert findings[0].stops
        assert re.search(message, findings[0].messages[0])
