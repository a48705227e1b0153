"""The documentation agrees with the recorded results and with the code."""

import json
import re
import statistics

import pytest
from conftest import ROOT

from msrcnn.ablation import tables
from msrcnn.benchmark import conventions, evaluation_speed, fit_time, training_step
from msrcnn.checkpoint.convert.maskscoring_rcnn import MaskScoringRCNN
from msrcnn.checkpoint.convert.mmdet import MMDetection
from msrcnn.checkpoint.convert.torchvision_models import TorchvisionMaskRCNN
from msrcnn.config import CONFIG_ROOT
from msrcnn.evaluation import metrics_table

README = (ROOT / "README.md").read_text()


def test_demo_table_matches_the_record():
    result = json.loads((ROOT / "docs" / "results" / "demo.json").read_text())
    assert result["command"] == "make demo"
    for line in metrics_table(result["evaluation"]).splitlines():
        assert line.strip() in README


def test_costs_match_the_record():
    heads = json.loads((ROOT / "docs" / "results" / "cost.json").read_text())["heads"]
    method = (ROOT / "docs" / "method.md").read_text()
    maskiou, mask = (heads[name]["multiply_adds"] / 1e9 for name in ("maskiou_head", "mask_head"))
    assert f"{maskiou:.3f} G multiply-adds a proposal, mask head {mask:.3f} G" in method


def test_differences_of_converted_models_match_the_record():
    document = (ROOT / "docs" / "checkpoints.md").read_text()
    result = json.loads((ROOT / "docs" / "results" / "conventions.json").read_text())
    for line in conventions.table(result).splitlines():
        assert line in document


def test_table_of_parameter_names_matches_the_converters():
    """Compares the first parameter of each row, for every library that has it."""
    document = (ROOT / "docs" / "checkpoints.md").read_text()
    rows = document.split("### Names")[1].split("###")[0].splitlines()
    rows = [
        [cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows if "_" in row
    ]
    libraries = (MaskScoringRCNN, MMDetection, TorchvisionMaskRCNN)
    for ours, *theirs in rows[2:]:  # without the heading and the ResNet
        ours = _first(ours.replace("...", "roi_heads.mask_head."))
        for library, name in zip(libraries, theirs, strict=True):
            if name:
                found = library({}).modules[ours]
                assert found.startswith(_first(name)), (library, ours)
            else:
                assert ours not in library({}).modules


def _first(name):
    """Returns the first of the names that a table cell abbreviates."""
    name = re.sub(r"{([^,}]+)[^}]*}", r"\1", name)
    return re.sub(r"(\d)-\d", r"\1", name)


def test_code_named_in_the_method_exists():
    """Files must exist at their paths, and other names anywhere in the package."""
    method = (ROOT / "docs" / "method.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "msrcnn").rglob("*.py"))
    for path in re.findall(r"`(\w+/\w+\.py)`", method):
        assert (ROOT / "msrcnn" / path).is_file(), path
    for name in re.findall(r"`([A-Z]\w+(?:\.\w+)*)`", method):
        assert name.split(".")[-1] in source, name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/.-]+\.yaml", README))))
def test_configs_named_in_the_readme_exist(path):
    assert (CONFIG_ROOT.parent / path).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_link_targets_of_the_readme_exist(target):
    assert (ROOT / target).exists()


def result(name):
    return json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())


def test_results_of_adding_mask_scoring_match_the_records():
    plain, added = result("nuclei_mask_rcnn"), result("nuclei_maskiou_head")
    before, after = plain["evaluation"], added["evaluation"]
    # Boxes and masks do not change, only the ranking of the masks.
    assert before["bbox"] == after["bbox"]
    assert before["segm_box_score"] == after["segm_box_score"]
    assert before["segm_oracle"] == after["segm_oracle"]
    assert before["segm_mask_score"] is None
    rows = []
    for name, run in (("Mask R-CNN", plain), ("mask scoring added", added)):
        found, training = run["evaluation"], run["training"]
        ap = [found[key] and found[key]["AP"] for key in ("bbox", "segm_box_score")]
        ap += [found[key] and found[key]["AP"] for key in ("segm_mask_score", "segm_oracle")]
        cells = ["-" if value is None else f"{value:.2f}" for value in ap]
        minutes = training["steps"] * training["seconds_per_step"] / 60
        cells.append(f"{training['steps']} steps, {minutes:.1f} minutes")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    low, high = after["delta"]["ci95"]
    gain = f"{after['delta']['AP']:+.2f} (95% interval {low:+.2f} to {high:+.2f})"
    document = (ROOT / "docs" / "checkpoints.md").read_text()
    for row in rows:
        assert row in document
    assert gain in document


@pytest.mark.parametrize(
    ("joint", "fitted"),
    [
        (None, "demo"),
        ("scores/animals_joint", "scores/animals_fitted"),
        ("scores/animals_again_joint", "scores/animals_again_fitted"),
        ("scores/ccp_joint", "scores/ccp_fitted"),
        ("scores/nuclei_joint", "scores/nuclei_fitted"),
    ],
)
def test_fitted_scores_match_the_records(joint, fitted):
    """Fitting changes neither boxes nor masks, and the rows of the table are the recorded ones."""
    after = result(fitted)["evaluation"]
    before = result(joint)["evaluation"] if joint else None
    if before:
        for key in ("bbox", "segm_box_score", "segm_oracle"):
            assert before[key] == after[key]
    delta = after["delta"]
    cells = [after[key]["AP"] for key in ("segm_box_score", "segm_mask_confidence")]
    cells += [before["segm_mask_score"]["AP"] if before else None, after["segm_mask_score"]["AP"]]
    texts = ["-" if value is None else f"{value:.2f}" for value in cells]
    texts.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(delta["AP"], *delta["ci95"]))
    texts += [f"{after[key]['AP']:.2f}" for key in ("bbox", "bbox_mask_score")]
    for document in (README, (ROOT / "docs" / "scores.md").read_text()):
        assert f"| {' | '.join(texts)} |" in document


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_seeds_of_the_demo_match_the_records(seed):
    cells = [str(seed)]
    for name in (f"scores/shapes_seed{seed}", f"scores/shapes_fresh_seed{seed}"):
        found = result(name)["evaluation"]
        keys = ("segm_box_score", "segm_mask_confidence", "segm_mask_score")
        cells += [f"{found[key]['AP']:.2f}" for key in keys]
        delta = found["delta"]
        cells.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(delta["AP"], *delta["ci95"]))
    assert f"| {' | '.join(cells)} |" in (ROOT / "docs" / "scores.md").read_text()


@pytest.mark.parametrize("name", ["matched", "defaults"])
def test_fits_on_fresh_images_match_the_records(name):
    found = result(f"scores/shapes_fresh_{name}_seed1")["evaluation"]
    delta, quality = found["delta"], found["maskiou"]
    cells = [f"{found[key]['AP']:.2f}" for key in ("segm_box_score", "segm_mask_score")]
    cells.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(delta["AP"], *delta["ci95"]))
    cells += [f"{quality[key]:.2f}" for key in ("pearson", "pearson_all")]
    assert f"| {' | '.join(cells)} |" in (ROOT / "docs" / "scores.md").read_text()


def test_gain_of_training_on_detections_matches_the_record():
    delta = result("scores/shapes_within_training")["evaluation"]["delta"]
    gain = "{:+.2f} mask AP over the box score (95% interval {:+.2f} to {:+.2f})"
    document = (ROOT / "docs" / "scores.md").read_text()
    assert gain.format(delta["AP"], *delta["ci95"]) in document


@pytest.mark.parametrize("name", ["again_fitted", "flip2", "views4", "half_seen", "half_unseen"])
def test_fits_to_few_images_match_the_records(name):
    found = result(f"scores/animals_{name}")["evaluation"]
    keys = ("segm_box_score", "segm_mask_confidence", "segm_mask_score")
    cells = [f"{found[key]['AP']:.2f}" for key in keys]
    delta = found["delta"]
    cells.append("{:+.2f} [{:+.2f}, {:+.2f}]".format(delta["AP"], *delta["ci95"]))
    assert f"| {' | '.join(cells)} |\n" in (ROOT / "docs" / "scores.md").read_text()


def test_gain_of_the_demo_matches_the_record():
    delta = result("demo")["evaluation"]["delta"]
    gain = "{:+.2f} mask AP over the box score (95% interval {:+.2f} to {:+.2f})"
    assert gain.format(delta["AP"], *delta["ci95"]) in README


def test_evaluation_benchmark_matches_the_record():
    document = (ROOT / "docs" / "evaluation.md").read_text()
    for line in evaluation_speed.table(result("evaluation")).splitlines():
        assert line.rstrip() in document


def test_time_of_a_fit_matches_the_record():
    record = result("fit_time")
    document = (ROOT / "docs" / "scores.md").read_text()
    assert fit_time.table(record) in document
    image, iteration = (
        statistics.median(record[key]) for key in ("image_seconds", "iteration_seconds")
    )
    ratio = iteration / image
    assert f"as much as {ratio:.2f} images of the pass" in document
    assert f"as much as {record['iterations'] * ratio:.0f} images." in document


def test_training_benchmark_matches_the_record():
    document = (ROOT / "docs" / "scores.md").read_text()
    assert training_step.table(result("training_step_fpn")) in document


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_pages_have_no_placeholders_or_broken_links(path):
    text = path.read_text()
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    for config in re.findall(r"configs/[\w/.-]+\.yaml", text):
        assert (CONFIG_ROOT.parent / config).is_file(), config


ABLATIONS = sorted((ROOT / "docs" / "results" / "ablations").glob("*/results.json"))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.parent.name)
def test_ablation_tables_match_the_records(path):
    recorded = json.loads(path.read_text())
    assert path.with_name("table.md").read_text() == tables.markdown(recorded)
    assert path.with_name("results.csv").read_text() == tables.as_csv(recorded)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.parent.name)
def test_results_page_has_every_significant_difference(path):
    """Each row has the baseline of a sweep, and the differences whose interval excludes 0."""
    recorded = json.loads(path.read_text())
    baseline = recorded["variants"][recorded["baseline"]]
    significant = []
    for variant in recorded["variants"].values():
        difference = variant["difference"]
        if difference and (difference["ci95"][0] > 0 or difference["ci95"][1] < 0):
            numbers = (difference["mean"], *difference["ci95"])
            significant.append("{} {:+.2f} [{:+.2f}, {:+.2f}]".format(variant["label"], *numbers))
    mean, std = (baseline[key]["AP"] for key in ("mean", "std"))
    name = path.parent.name
    row = [f"[{name}](results/ablations/{name}/table.md)", baseline["label"]]
    row += [f"{mean:.2f} ± {std:.2f}", "; ".join(significant) or "none"]
    assert f"| {' | '.join(row)} |" in (ROOT / "docs" / "ablations.md").read_text()


def test_figures_in_the_text_about_ablations_match_the_records():
    document = " ".join((ROOT / "docs" / "ablations.md").read_text().split())

    def mean(sweep, variant, column):
        path = ROOT / "docs" / "results" / "ablations" / sweep / "results.json"
        return json.loads(path.read_text())["variants"][variant]["mean"][column]

    pearson = [
        mean("training_target_shapes", name, "Pearson") for name in ("target_class", "all_classes")
    ]
    assert "true MaskIoU from {:.2f} to {:.2f}".format(*pearson) in document
    ap = [mean("head_cost_nuclei", name, "AP") for name in ("confidence", "full")]
    assert "trained head ({:.2f} against {:.2f})".format(*ap) in document


def test_every_sweep_is_recorded():
    """Sweeps of the head are recorded on both datasets, and all with at least three seeds."""
    sweeps = {path.stem for path in (CONFIG_ROOT / "ablations").glob("*.yaml")}
    sweeps -= {"claim", "samples", "score"}  # not recorded yet
    expected = {f"{sweep}_shapes" for sweep in sweeps}
    expected |= {f"{sweep}_nuclei" for sweep in sweeps - {"backbone", "framework"}}
    assert {path.parent.name for path in ABLATIONS} == expected
    for path in ABLATIONS:
        recorded = json.loads(path.read_text())
        assert recorded["missing"] == []
        assert len(recorded["protocol"]["seeds"]) >= 3
