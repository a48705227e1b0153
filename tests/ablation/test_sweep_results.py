import csv
import io
import json
import statistics

import pytest
from pycocotools.coco import COCO
from sample_sweeps import custom_data, finish, write_sweep
from stand_ins import stand_in

from msrcnn.ablation import load_sweep, make_plan, write_outputs
from msrcnn.ablation.collect import collect
from msrcnn.ablation.tables import as_csv, markdown, notes, table
from msrcnn.errors import UserError
from msrcnn.evaluation import student_interval
from msrcnn.evaluation.predictions_file import save_predictions
from msrcnn.visualization.ablation_plot import draw_sweep
from msrcnn.visualization.plot_style import to_png

AP = {"concat": [30.0, 31.0, 35.0], "multiply": [31.0, 31.5, 36.5]}


@pytest.fixture
def plan(tmp_path, shapes_root):
    def plan(**changes):
        head_only = changes.pop("only_heads", False)
        sweep = load_sweep(write_sweep(tmp_path, **changes))
        data = custom_data(shapes_root)
        return make_plan(sweep, "full", tmp_path / "runs", head_only=head_only, **data)

    return plan


@pytest.fixture
def finished(plan):
    """The plan with all its runs finished, and its results."""
    planned = plan()
    for name, values in AP.items():
        for seed, ap in zip((1, 2, 3), values, strict=True):
            finish(planned.variants[name][seed], ap)
    return planned, collect(planned)


def test_student_interval_by_its_published_quantiles():
    """t of 0.975: 12.706 for 1 degree of freedom, 4.303 for 2, 2.776 for 4."""
    for values, quantile in (([1, 3], 12.706), ([1, 2, 6], 4.303), ([1, 2, 3, 4, 9], 2.776)):
        low, high = student_interval(values)
        half = quantile * statistics.stdev(values) / len(values) ** 0.5
        assert (high - low) / 2 == pytest.approx(half, rel=1e-3)
        assert (high + low) / 2 == pytest.approx(statistics.mean(values))
    assert student_interval([1.0, 1.0, 1.0]) == [1.0, 1.0]
    assert student_interval([1.0]) is None


def test_mean_deviation_and_difference(finished):
    variants = finished[1]["variants"]
    assert variants["concat"]["mean"]["AP"] == pytest.approx(32.0)
    assert variants["concat"]["std"]["AP"] == pytest.approx(statistics.stdev(AP["concat"]))
    assert variants["concat"]["difference"] is None
    difference = variants["multiply"]["difference"]
    assert difference["mean"] == pytest.approx(1.0)  # of 1, 0.5 and 1.5, seed by seed
    assert difference["over"] == "seeds"
    assert difference["ci95"] == pytest.approx([1 - 1.2421, 1 + 1.2421], abs=1e-3)
    assert [run["seed"] for run in variants["multiply"]["runs"]] == [1, 2, 3]


def test_table_as_a_reader_sees_it(finished):
    finished[1]["comparable"] = True
    lines = table(finished[1]).splitlines()
    assert lines[0].split("  ")[-1].strip() == "published AP"
    concat, multiply = lines[2:]
    assert concat.split() == ["(a)", "32.00", "±", "2.65", "50.00", "±", "0.00", "-", "29.3"]
    assert "+1.00 [-0.24, +2.24]" in multiply
    assert multiply.split()[-1] == "-"


def test_notes_say_what_kind_of_runs_these_are(finished):
    text = "\n".join(notes(finished[1]))
    assert (
        "Full protocol (quick/smoke_ms_rcnn_R_18_FPN.yaml), evaluated on custom data with up to "
        "100 detections per image"
    ) in text
    assert "4 steps of 2 images, 3 seeds; the whole model is trained." in text
    assert "Student's t" in text
    assert "ublished" not in text  # published numbers are not for custom data
    assert "published" not in table(finished[1])
    assert "29.3" not in as_csv(finished[1])


def test_runs_of_different_versions_are_warned_of(finished):
    planned, results = finished
    assert results["mixed_versions"] == []
    assert "Warning" not in "\n".join(notes(results))
    path = planned.variants["concat"][2].folder / "result.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "versions": {**record["versions"], "commit": "abc"}}))
    results = collect(planned)
    assert results["mixed_versions"] == ["commit"]
    assert "Warning: the runs come from different versions of commit" in "\n".join(notes(results))


def test_only_the_published_protocol_is_comparable(tmp_path, without_data):
    sweep = load_sweep(write_sweep(tmp_path))

    def comparable(**changes):
        planned = make_plan(sweep, "full", tmp_path, **changes)
        for run in planned.runs:
            finish(run, 30.0)
        results = collect(planned)
        assert ("Published numbers" in "\n".join(notes(results))) == results["comparable"]
        return results["comparable"]

    assert comparable()
    assert not comparable(head_only=True)
    assert not comparable(opts=["SOLVER.MAX_ITER", "3"])


def test_quick_and_head_only_are_labelled_as_such(plan, tmp_path):
    planned = plan(only_heads=True)
    finish(planned.detector, None)
    finish(planned.variants["concat"][1], 30.0)
    text = "\n".join(notes(collect(planned)))
    assert "head only" in text
    assert "ublished" not in text
    assert "the same boxes and masks, with box AP 50.00 and mask AP 40.00 by box score" in text
    assert "would reach 60.00" in text


def test_unfinished_runs_are_named(plan):
    planned = plan()
    finish(planned.variants["concat"][1], 30.0)
    finish(planned.variants["concat"][3], 31.0)
    finish(planned.variants["multiply"][2], 30.5)
    results = collect(planned)
    assert results["missing"] == ["multiply seed 1", "concat seed 2", "multiply seed 3"]
    assert results["variants"]["multiply"]["difference"] is None  # no seed has both
    assert "(a) (2 of 3 seeds)" in table(results)
    assert "Not finished: multiply seed 1, concat seed 2" in markdown(results)
    finish(planned.variants["concat"][2], 30.0)
    results = collect(planned)
    assert results["variants"]["multiply"]["difference"]["over"] is None  # one seed has both
    assert "predictions.npz" not in markdown(results)  # which would not help
    assert draw_sweep(results)


def test_nothing_finished_replaces_nothing(plan, tmp_path):
    with pytest.raises(UserError, match="no run of this protocol is finished"):
        write_outputs(plan(), tmp_path / "out", "sample")
    assert not (tmp_path / "out").exists()


def test_what_does_not_apply_is_a_dash(plan):
    planned = plan()
    for run in planned.runs:
        finish(run, None)
    results = collect(planned)
    assert results["variants"]["concat"]["mean"]["AP"] is None
    assert table(results).splitlines()[-1].split()[1] == "-"
    assert draw_sweep(results) == {}


def test_no_interval_over_the_same_run(finished):
    """An evaluation without training is one run, whatever the number of seeds."""
    planned, _ = finished
    for name, runs in planned.variants.items():
        planned.variants[name] = dict.fromkeys(runs, runs[1])
    multiply = collect(planned)["variants"]["multiply"]
    assert len(multiply["runs"]) == 3
    assert multiply["difference"]["ci95"] is None
    assert multiply["std"]["AP"] is None


def test_joint_heads_of_several_detectors_have_a_deviation(plan):
    """They are only evaluated, but each is another run."""
    fit = {"SOLVER.FIT_SCORES": True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES": "detections"}
    planned = plan(only_heads=True, joint=True, variants={"concat": {}, "fit": {"set": fit}})
    for seed, ap in zip((1, 2, 3), AP["concat"], strict=True):
        finish(planned.variants["concat"][seed], ap)
    concat = collect(planned)["variants"]["concat"]
    assert concat["std"]["AP"] == pytest.approx(statistics.stdev(AP["concat"]))


def test_learning_curves_count_completed_iterations(plan):
    planned = plan(only_heads=True)
    finish(planned.detector, None)
    lines = [{"iteration": i, "bbox/AP": 9.0, "segm_box_score/AP": i} for i in (1, 4)]
    log = planned.detector.folder / "metrics.json"
    log.write_text("\n".join(json.dumps(line) for line in lines))
    (curve,) = collect(planned)["learning_curves"].values()
    assert [(each["iteration"], each["segm_box_score"]) for each in curve] == [(2, 1), (4, 4)]


def test_learning_curve_of_a_training_that_stopped_early(plan):
    """It ends with two evaluations of the same weights."""
    planned = plan(only_heads=True)
    finish(planned.detector, None)
    lines = [{"iteration": i, "bbox/AP": 9.0, "segm_box_score/AP": 1} for i in (9, 19, 20)]
    log = planned.detector.folder / "metrics.json"
    log.write_text("\n".join(json.dumps(line) for line in lines))
    (curve,) = collect(planned)["learning_curves"].values()
    assert [each["iteration"] for each in curve] == [10, 20]


def test_learning_curve_of_a_training_that_goes_on(plan):
    """Its last evaluation is one of those that count from 0."""
    planned = plan(only_heads=True, set={"SOLVER.MAX_ITER": 3000})
    planned.detector.folder.mkdir(parents=True)
    lines = [{"iteration": i, "bbox/AP": 9.0, "segm_box_score/AP": 1} for i in (499, 999)]
    log = planned.detector.folder / "metrics.json"
    log.write_text("\n".join(json.dumps(line) for line in lines))
    (curve,) = collect(planned)["learning_curves"].values()
    assert [each["iteration"] for each in curve] == [500, 1000]


def test_steps_are_those_that_were_taken(plan):
    """A training may stop early."""
    early = {"SOLVER.EARLY_STOP": 1, "SOLVER.KEEP_BEST": "bbox/AP", "TEST.EVAL_PERIOD": 1}
    planned = plan(only_heads=True, set=early)
    for run in planned.runs:
        finish(run, 30.0, steps=1)
    results = collect(planned)
    assert results["detector"] is None  # whose last weights were evaluated; heads have the best
    assert {run["steps"] for run in results["variants"]["concat"]["runs"]} == {1}
    description = results["protocol"]["description"]
    assert "up to 2 steps of 2 images" in description
    assert "trained for up to 4 steps" in description


def test_steps_of_the_detector(plan):
    planned = plan(only_heads=True)
    finish(planned.detector, None, steps=3)
    assert collect(planned)["detector"]["steps"] == 3


def test_times_of_the_detectors(plan):
    planned = plan(only_heads=True)
    assert collect(planned)["detector_times"] == {}
    finish(planned.detector, None, seconds=0.7)
    (times,) = collect(planned)["detector_times"].values()
    assert times == {"seconds_per_step": 0.7, "seconds_per_image": 0.2}


def test_one_seed_has_an_interval_over_images(plan, shapes_root):
    planned = plan(seeds=[1])
    ground_truth = COCO(str(shapes_root / "annotations" / "instances_val.json"))
    for name, runs in planned.variants.items():
        finish(runs[1], 30.0 if name == "concat" else 31.0)
        detections = stand_in(ground_truth)
        save_predictions(detections, runs[1].folder / "inference" / "predictions.npz")
    difference = collect(planned)["variants"]["multiply"]["difference"]
    assert difference["over"] == "images"
    assert difference["ci95"] == [0.0, 0.0]  # both predict the same
    assert "paired bootstrap" in "\n".join(notes(collect(planned)))
    (runs[1].folder / "inference" / "predictions.npz").unlink()
    difference = collect(planned)["variants"]["multiply"]["difference"]
    assert difference == {"mean": 1.0, "ci95": None, "over": None}
    assert "No confidence interval" in "\n".join(notes(collect(planned)))


def test_csv_has_a_line_for_each_run(finished):
    finished[1]["comparable"] = True
    rows = list(csv.DictReader(io.StringIO(as_csv(finished[1]))))
    by_seed = {(row["variant"], row["seed"]): row for row in rows}
    assert [float(by_seed["multiply", str(seed)]["AP"]) for seed in (1, 2, 3)] == AP["multiply"]
    assert by_seed["concat", "1"]["steps"] == "4"
    assert float(by_seed["concat", "mean"]["AP"]) == pytest.approx(32)
    assert by_seed["concat", "published"]["AP"] == "29.3"
    assert by_seed["concat", "mean"]["difference"] == ""
    assert float(by_seed["multiply", "mean"]["difference"]) == pytest.approx(1)
    assert float(by_seed["multiply", "mean"]["ci95_low"]) == pytest.approx(-0.2421, abs=1e-3)
    assert ("multiply", "published") not in by_seed
    zero = dict.fromkeys(finished[1]["columns"], 0.0)
    finished[1]["variants"]["concat"]["mean"] = zero
    rows = list(csv.DictReader(io.StringIO(as_csv(finished[1]))))
    assert ("concat", "mean", "0.0") in [(r["variant"], r["seed"], r["AP"]) for r in rows]
    assert {(row["protocol"], row["head_only"]) for row in rows} == {("full", "False")}


def test_files_of_a_sweep(finished, tmp_path):
    planned, results = finished
    write_outputs(planned, tmp_path / "out", "msrcnn ablate --sweep sample")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["command"] == "msrcnn ablate --sweep sample"
    assert written["hardware"] == "2 CPU cores (sample)"  # of the runs, not of this machine
    assert written["variants"] == json.loads(json.dumps(results["variants"]))
    assert (tmp_path / "out" / "table.md").read_text().startswith("### Sample (full protocol)\n\n|")
    assert (tmp_path / "out" / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "results.csv").read_text().startswith("protocol,head_only,variant")


def test_cost_has_its_own_plot(plan):
    report = {"AP": "segm_mask_score/AP", "multiply-adds": "cost/multiply_adds"}
    planned = plan(report=report)
    for run in planned.runs:
        finish(run, 30.0)
    results = collect(planned)
    assert set(draw_sweep(results)) == {"plot", "cost"}
    assert results["variants"]["concat"]["mean"]["multiply-adds"] > 0
    assert " M" in table(results)


def test_a_damaged_result_is_named(plan):
    planned = plan()
    finish(planned.runs[0], 30.0)
    (planned.runs[0].folder / "result.json").write_text("{")
    with pytest.raises(UserError, match="result.json' is damaged .*delete it"):
        collect(planned)


@pytest.mark.parametrize("key", ["evaluation", "hardware", "versions"])
def test_a_result_without_a_part_is_damaged(key, plan):
    planned = plan()
    finish(planned.runs[0], 30.0)
    path = planned.runs[0].folder / "result.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, key: None}))
    with pytest.raises(UserError, match=f"result.json' is damaged .*'{key}'.*: delete it"):
        collect(planned)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("evaluation.segm_mask_score", 5),
        ("evaluation.segm_mask_score.AP", "high"),
        ("evaluation.delta", [1.0]),
        ("evaluation.maskiou", {"pearson": "high"}),
        ("evaluation.maskiou", {"calibration_all": [{"n": 1, "true": 0.5}]}),
        ("evaluation.by_iou", {"segm_box_score": [40.0]}),
        ("evaluation.images", None),
        ("evaluation.seconds", {"inference": "long"}),
        ("versions", {"python": ["3"]}),
        ("training", {"steps": 1.5, "seconds_per_step": None}),
    ],
)
def test_a_value_of_the_wrong_type_is_damage(part, value, plan):
    planned = plan()
    finish(planned.runs[0], 30.0)
    path = planned.runs[0].folder / "result.json"
    record = json.loads(path.read_text())
    *sections, key = part.split(".")
    section = record
    for each in sections:
        section = section[each]
    section[key] = value
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=rf"result.json' is damaged \(.*'{part}.*: delete it"):
        collect(planned)


def test_without_ap_by_box_score_there_is_no_gain(plan):
    planned = plan()
    finish(planned.runs[0], 30.0)
    path = planned.runs[0].folder / "result.json"
    record = json.loads(path.read_text())
    del record["evaluation"]["segm_box_score"]
    path.write_text(json.dumps(record))
    assert collect(planned)["variants"]["concat"]["breakdown"]["all"] == {}


def test_numbers_that_a_result_lacks_do_not_apply(plan):
    planned = plan(only_heads=True, report={"AP": "segm_mask_score/AP", "rho": "maskiou/pearson"})
    for run in planned.runs:
        finish(run, 30.0)
        path = run.folder / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "evaluation": {}}))
    results = collect(planned)
    assert results["variants"]["concat"]["mean"] == {"AP": None, "rho": None}
    assert results["detector"]["segm_oracle"] is None
    assert table(results)
    assert notes(results)


def test_labels_are_only_text(finished):
    results = finished[1]
    results["variants"]["concat"]["label"] = "=1|2 <b> $x_"
    results["title"] = "*Sample* \x1b[2J\n$y"
    text = markdown(results)
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    assert text.startswith(r"### \*Sample\* \\x1b\[2J\\n$y (full protocol)" + "\n\n|")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1
    assert r"=1\|2 \<b> $x_" in text
    assert "'=1|2 <b> $x_" in [row["label"] for row in csv.DictReader(io.StringIO(as_csv(results)))]
    for figure in draw_sweep(results).values():
        assert to_png(figure)
