import base64
import copy
import dataclasses
import hashlib
import re
from collections import Counter

import pytest
from PIL import Image
from report_page import Page, report
from stand_ins import without_scores
from test_gallery import INSTANCE, one_detection

from msrcnn.evaluation import ORACLES, RANKINGS, evaluate_detections
from msrcnn.evaluation.agreement import SCORES
from msrcnn.evaluation.rankings import AP_LABELS
from msrcnn.visualization import write_report
from msrcnn.visualization.class_section import MAX_EXPANDED_CLASSES
from msrcnn.visualization.html import SCRIPT
from msrcnn.visualization.mask_choice import most_moved, most_overrated
from msrcnn.visualization.mask_picture import draw_mask
from msrcnn.visualization.plot_style import LABELS
from msrcnn.visualization.text import MINUS, NOTHING


@pytest.fixture(scope="session")
def any_page(any_evaluation, tmp_path_factory) -> Page:
    return report(any_evaluation, tmp_path_factory.mktemp("report"))


def number(text: str) -> float | None:
    return None if text == NOTHING else float(text.replace(MINUS, "-").replace(",", ""))


def test_report_is_valid_and_self_contained(any_page):
    page = any_page
    references = {"src", "href", "srcset", "data", "poster", "action", "background", "xlink:href"}
    used = {(tag, name) for tag, name, _ in page.attributes if name in references}
    assert used <= {("img", "src")}
    without_images = re.sub(rb'src="data:[^"]*"', b"", page.source)
    assert not re.search(rb"https?:|//|url\(|@import|javascript| on\w+=", without_images)
    assert page.script == SCRIPT.read_text()
    policies = [each["content"] for tag, each in page.elements if "http-equiv" in each]
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert policies == [
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    ]
    assert len(list(page.pictures())) == page.tags["img"]

    attributes = Counter((tag, name) for tag, name, _ in page.attributes)
    assert ("html", "lang", "en") in page.attributes
    assert ("meta", "charset", "utf-8") in page.attributes
    viewport = ("meta", "content", "width=device-width, initial-scale=1")
    assert viewport in page.attributes
    for name in ("alt", "width", "height"):
        assert attributes["img", name] == page.tags["img"]
    assert all(value for tag, name, value in page.attributes if name == "alt")
    assert page.tags["h1"] == page.tags["main"] == page.tags["title"] == 1
    assert page.tags["h2"] >= 3
    assert "None" not in page.text
    assert "nan" not in page.text.split()
    assert len(page.source) < 3e6


def test_table_of_rankings(any_evaluation, any_page):
    summary = any_evaluation.summary
    header, *rows = any_page.tables["Average precision under each ranking"]
    assert header == ["", *summary["bbox"]]
    expected = {LABELS[name]: summary[name] for name in AP_LABELS if summary[name] is not None}
    assert [name for name, *_ in rows] == list(expected)
    for name, *values in rows:
        for value, exact in zip(values, expected[name].values(), strict=True):
            assert number(value) == (None if exact is None else pytest.approx(exact, abs=0.00501))


def test_table_of_agreement(any_evaluation, any_page):
    summary = any_evaluation.summary
    tables = any_page.tables
    header = ["", "Pearson", "Spearman", "MAE", "detections"]
    for scope, suffix in (("matched detections", ""), ("all detections", "_all")):
        expected = []
        for key, label in SCORES.items():
            if summary[key] is not None and summary[key]["n"]:
                expected.append((label, summary[key]))
                expected += [] if suffix else summary[key]["by_size"].items()
        name = f"Agreement with MaskIoU, {scope}"
        assert (name in tables) == bool(expected)
        rows = tables.get(name, [header])
        assert rows[0] == header
        for (name, *values), (label, statistics) in zip(rows[1:], expected, strict=True):
            assert name == label
            for value, key in zip(values, ("pearson", "spearman", "mae", "n"), strict=True):
                exact = statistics[key + suffix]
                nothing = exact is None
                assert number(value) == (None if nothing else pytest.approx(exact, abs=0.000501))


@pytest.mark.parametrize("value", ["ignore", "zero", None])
def test_report_says_what_the_model_was_trained_for(evaluation, tmp_path, value):
    maskiou = {**evaluation.summary["maskiou"], "false_positives": value}
    summary = {**evaluation.summary, "maskiou": maskiou}
    text = report(dataclasses.replace(evaluation, summary=summary), tmp_path).text
    matched = text.index("Matched detectionsHow well")
    every = text.index("All detectionsHow well")
    stated = text.find("trained to predict")
    assert text.count("trained to predict") == (value is not None)
    assert (matched < stated < every) == (value == "ignore")
    assert (every < stated) == (value == "zero")


def test_table_of_classes(any_evaluation, any_page):
    header, *rows = any_page.tables["Average precision of each class"]
    precision = any_evaluation.precision
    names = ["bbox", "segm_box_score", "segm_mask_score"]
    names = [name for name in names if name in precision]
    with_gain = len(names) == 3
    gain = ["gain"] if with_gain else []
    assert header == ["class", "instances", *(AP_LABELS[name] for name in names), *gain]
    counted = Counter(
        a["category_id"]
        for a in any_evaluation.ground_truth.dataset["annotations"]
        if not a["iscrowd"]
    )
    assert len(rows) == len(any_evaluation.ground_truth.cats)
    index = {c["name"]: i for i, c in enumerate(precision["bbox"].categories)}
    sorted_by = []
    for name, instances, *values in rows:
        category = precision["bbox"].categories[index[name]]
        assert number(instances) == counted[category["id"]]
        ap = [precision[ranking].of_category(index[name])["AP"] for ranking in names]
        if with_gain:
            ap.append(None if ap[0] is None else ap[2] - ap[1])
        for value, exact in zip(values, ap, strict=True):
            assert number(value) == (None if exact is None else pytest.approx(exact, abs=0.00501))
        sorted_by.append(float("-inf") if ap[-1] is None else ap[-1])
    assert sorted_by == sorted(sorted_by, reverse=True)


def test_many_classes_are_collapsed(any_evaluation, any_page):
    assert any_page.tags["details"] == 1
    is_open = ("details", "open", "") in any_page.attributes
    assert is_open == (len(any_evaluation.ground_truth.cats) <= MAX_EXPANDED_CLASSES)


def test_best_ranking_is_bold_except_for_the_upper_bound(evaluation, tmp_path):
    summary = evaluation.summary
    mask_rankings = [name for name in RANKINGS if name not in ORACLES]
    expected = Counter()
    for metric in summary["bbox"]:
        shown = [f"{summary[name][metric]:.2f}" for name in mask_rankings if summary[name][metric]]
        if len(set(shown)) > 1:  # no bold if all rankings are equal
            best = max(shown, key=float)
            expected[best] += shown.count(best)
    assert sum(expected.values()) >= 5
    assert Counter(report(evaluation, tmp_path).bold) == expected
    # The upper bound would have been the best.
    assert summary["segm_oracle"]["AP"] > max(summary[name]["AP"] for name in mask_rankings)


def test_tied_rankings_are_bold_unless_all_are_equal(evaluation, tmp_path):
    rankings = ("segm_box_score", "segm_mask_score", "segm_mask_confidence")
    summary = copy.deepcopy(evaluation.summary)
    for name, values in zip(rankings, ((11.111, 22), (11.112, 22), (5, 22))):
        summary[name].update(dict.fromkeys(summary[name]), AP=values[0], AP50=values[1])
    page = report(dataclasses.replace(evaluation, summary=summary), tmp_path)
    assert page.bold == ["11.11", "11.11"]


def test_single_ranking_is_not_bold(evaluation, tmp_path):
    plain = without_scores(evaluation.detections)
    page = report(evaluate_detections(evaluation.ground_truth, plain), tmp_path)
    assert page.bold == []
    assert "Bold" not in page.text


def test_gallery_captions(evaluation, shapes_root, tmp_path):
    page = report(evaluation, tmp_path, shapes_root / "train")
    alt = [value for _, name, value in page.attributes if name == "alt"]
    assert sum(text.endswith("predicted mask and ground truth") for text in alt) == 16
    detections, ground_truth = evaluation.detections, evaluation.ground_truth
    position, gallery = 0, page.sections["Masks"]
    for index, box_rank, mask_rank in (m for masks in most_moved(evaluation) for m in masks):
        true = evaluation.true_maskiou
        value = true.matched[index] if true.instance[index] else true.best[index]
        caption = (
            f"{ground_truth.cats[detections.category_id[index]]['name']}"
            f"Rank{box_rank:,} → {mask_rank:,}Box score{detections.score[index]:.2f}"
            f"Predicted MaskIoU{detections.maskiou[index]:.2f}"
            f"Mask score{detections.mask_score[index]:.2f}True MaskIoU{value:.2f}"
        )
        assert caption in gallery[position:]  # and in this order
        position = gallery.index(caption, position) + len(caption)
        file_name = ground_truth.imgs[detections.image_id[index]]["file_name"]
        assert file_name in gallery[position : position + 100]
    assert "plain background" not in page.text


def test_gallery_without_mask_scores(evaluation, shapes_root, tmp_path):
    plain = evaluate_detections(evaluation.ground_truth, without_scores(evaluation.detections))
    page = report(plain, tmp_path, shapes_root / "train")
    assert "High box score, poor mask" in page.text
    assert "Moved" not in page.text
    masks = most_overrated(plain)
    assert masks
    ranks = re.findall(r"Rank([\d,]+)Box score([\d.]+)True MaskIoU([\d.]+)", page.text)
    assert [number(rank) for rank, *_ in ranks] == [m.box_rank for m in masks]


def test_missing_images_are_reported(evaluation, tmp_path):
    for root in (None, tmp_path / "missing"):
        page = report(evaluation, tmp_path, root)
        notes = re.findall(r"(\d+) of the pictures have a plain", page.text)
        assert len(notes) >= 2
        assert Counter(kind for kind, _ in page.pictures())["jpeg"] == sum(map(int, notes))


UNSAFE = """<script>alert("1")</script> & 'x' --> </style> {0} $title %s é 日本 \U0001f600"""


@pytest.fixture
def one_mask():
    """An evaluation with one picture in its gallery."""
    evaluation = one_detection((40, 20, 20, 40), INSTANCE)
    return evaluate_detections(evaluation.ground_truth, without_scores(evaluation.detections))


def test_names_are_escaped(one_mask, tmp_path):
    one_mask.ground_truth.imgs[7]["file_name"] = UNSAFE
    one_mask.ground_truth.cats[3]["name"] = UNSAFE
    page = report(one_mask, tmp_path, None, UNSAFE)  # Page rejects script tags
    assert page.tags["script"] == 1
    # Title, heading, and names of the class and the file.
    assert page.text.count(UNSAFE) == 10
    assert all(UNSAFE in page.sections[each] for each in ("Classes", "Confusions", "Masks"))
    alt = [value for _, name, value in page.attributes if name == "alt"]
    assert sum(text.count(UNSAFE) for text in alt) > 2


def test_control_characters_are_shown(one_mask, tmp_path):
    one_mask.ground_truth.imgs[7]["file_name"] = "a \udc80\u202e\x1b[2J\x00 b"
    page = report(one_mask, tmp_path)
    assert r"a \udc80\u202e\x1b[2J\x00 b" in page.text
    assert any(r"\udc80\u202e" in value for _, name, value in page.attributes if name == "alt")


def test_picture_outside_of_the_image_folder_is_not_shown(one_mask, tmp_path):
    info = one_mask.ground_truth.imgs[7]
    picture = Image.new("RGB", (info["width"], info["height"]))
    (tmp_path / "images").mkdir()
    for folder in (tmp_path, tmp_path / "images"):
        picture.save(folder / "a.png")
    shown = {}
    for name in ("a.png", "../a.png", str(tmp_path / "a.png")):
        info["file_name"] = name
        shown[name] = draw_mask(one_mask, 0, tmp_path / "images")[1]
    assert list(shown.values()) == [True, False, False]


def test_plots_are_saved_and_embedded(evaluation, tmp_path):
    plots = write_report(evaluation, tmp_path)
    page = Page((tmp_path / "report.html").read_bytes())
    names = ["ap_over_iou", "gain_over_iou", "precision_recall"]
    names += ["true_maskiou", "calibration", "true_maskiou_by_size"]
    files = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert files == {f"{name}.png": content for name, content in plots.items()}
    assert plots.keys() == set(names)
    embedded = [content for kind, content in page.pictures() if kind == "png"]
    assert embedded == [files[f"{name}.png"] for name in names]


def test_report_is_reproducible(evaluation, shapes_root, tmp_path):
    before = copy.deepcopy(evaluation.summary)
    for name in ("a", "b"):
        write_report(evaluation, tmp_path / name, shapes_root / "train", "title")
    files = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in tmp_path.rglob(f"{name}/**/*.*")
        }
        for name in ("a", "b")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 7
    assert evaluation.summary == before


def test_half_a_million_detections(large_evaluation, shapes_root, tmp_path):
    page = report(large_evaluation, tmp_path, shapes_root / "train")
    assert f"{len(large_evaluation.detections):,} detections" in page.text
    assert len(page.source) < 3e6
