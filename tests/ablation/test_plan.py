import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from detectron2.data.datasets import register_coco_instances
from PIL import Image, ImageFilter
from sample_sweeps import FITS, PROPOSALS, custom_data, write_sweep

from msrcnn.ablation import load_sweep, make_plan
from msrcnn.ablation.description import describe
from msrcnn.ablation.digest import _data_digest
from msrcnn.config import CONFIG_ROOT, get_msrcnn_cfg
from msrcnn.errors import UserError
from msrcnn.modeling import ROI_MASKIOU_HEAD_REGISTRY
from msrcnn.modeling.maskiou_input import INPUT_DESIGNS
from msrcnn.modeling.maskiou_loss import MASKIOU_LOSS_REGISTRY
from msrcnn.modeling.maskiou_samples import TARGETS


@pytest.fixture
def plan(tmp_path, shapes_root):
    """Plans a sample sweep on the small dataset."""

    def plan(*, head_only=False, opts=(), data=None, head_only_settings=None, **changes):
        if head_only_settings:
            changes["head_only"] = head_only_settings
        sweep = load_sweep(write_sweep(tmp_path, **changes))
        data = custom_data(shapes_root) if data is None else data
        runs_dir = tmp_path / "runs"
        return make_plan(sweep, "full", runs_dir, head_only=head_only, opts=opts, **data)

    return plan


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("head_input", "INPUT", INPUT_DESIGNS),
        ("training_target", "TARGET", TARGETS),
        ("sample_threshold", "MASKIOU_THRESH", [0.0, 0.3, 0.5, 0.7]),
        ("loss", "LOSS_TYPE", dict(MASKIOU_LOSS_REGISTRY)),
        ("head_cost", "NAME", dict(ROI_MASKIOU_HEAD_REGISTRY)),
    ],
)
def test_variants_of_a_table_differ_in_one_key_and_cover_its_values(name, key, values):
    key = f"MODEL.ROI_MASKIOU_HEAD.{key}"
    sweep = load_sweep(name)
    for variant in sweep.variants.values():
        assert list(variant.overrides) == [key]
        assert variant.bases == {}
    assert sorted(v.overrides[key] for v in sweep.variants.values()) == sorted(values)


def protocols():
    """Quick protocols of a sweep differ in their base alone, and ``claim`` has all the bases."""
    for path in sorted((CONFIG_ROOT / "ablations").glob("*.yaml")):
        quick = list(yaml.safe_load(path.read_text()).get("quick", {}))
        for protocol in ("full", *(quick if path.stem == "claim" else quick[:1])):
            yield path.stem, protocol


@pytest.mark.parametrize(("name", "protocol"), list(protocols()))
def test_protocols_can_be_planned(name, protocol, tmp_path, without_data):
    sweep = load_sweep(name)
    head_only = sweep.protocols[protocol].head_only is not None
    opts = ["MODEL.WEIGHTS", ""]  # those of the full protocol need the internet
    planned = make_plan(sweep, protocol, tmp_path, head_only=head_only, opts=opts)
    seeds, joint = len(sweep.protocols[protocol].seeds), sweep.protocols[protocol].joint
    trained = sum(runs[1].trains for runs in planned.variants.values())
    # Where there is nothing to train, one run serves all seeds of a detector.
    detectors = seeds if joint else 1
    others = (len(sweep.variants) - trained) * detectors
    assert len(planned.runs) == trained * seeds + others + head_only * detectors
    kind = "Full" if protocol == "full" else "Quick"
    assert describe(planned).startswith(f"{kind} protocol")
    assert ("head only" in describe(planned)) == head_only
    assert not list(tmp_path.iterdir())  # nothing is written


def test_runs_of_a_variant_differ_in_their_seed(plan):
    runs = plan().variants["multiply"]
    assert list(runs) == [1, 2, 3]
    assert len({run.folder for run in runs.values()}) == 3
    for seed, run in runs.items():
        assert run.cfg.SEED == seed
        assert run.cfg.MODEL.ROI_MASKIOU_HEAD.INPUT == "multiply"
        assert run.start is None


def test_settings_of_a_protocol_are_those_of_every_variant(plan):
    short = {"SOLVER.MAX_ITER": 3}
    planned = plan(set=short, head_only=True)
    assert planned.detector.steps == 3
    assert planned.variants["concat"][1].steps == 2  # the schedule of the head goes before
    planned = plan(set=short)
    assert {run.steps for run in planned.runs} == {3}


def test_seeds_take_turns(plan):
    """So that a table is complete for one seed before the next is begun."""
    titles = [run.title for run in plan().runs]
    assert titles[:3] == ["concat seed 1", "multiply seed 1", "concat seed 2"]


def folders(plan):
    return {name: [run.folder for run in runs.values()] for name, runs in plan.variants.items()}


def test_a_changed_config_is_another_run_of_that_variant_alone(plan):
    before = folders(plan())
    changed = {
        "concat": {"label": "another label"},
        "multiply": {
            "set": {
                "MODEL.ROI_MASKIOU_HEAD.INPUT": "multiply",
                "MODEL.ROI_MASKIOU_HEAD.LOSS_WEIGHT": 2.0,
            }
        },
    }
    after = folders(plan(variants=changed))
    assert after["concat"] == before["concat"]
    assert not set(after["multiply"]) & set(before["multiply"])


def test_what_makes_no_difference_is_the_same_run(plan):
    opts = ["SOLVER.CHECKPOINT_PERIOD", "7", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "3"]
    opts += ["SOLVER.CHECKPOINT_MINUTES", "1", "SOLVER.CHECKPOINT_KEEP", "9"]
    assert folders(plan(opts=opts)) == folders(plan())
    assert folders(plan(opts=["SOLVER.BASE_LR", "0.5"])) != folders(plan())


def test_a_key_of_a_later_version_changes_nothing(plan, monkeypatch):
    before = folders(plan())

    def later():
        cfg = get_msrcnn_cfg()
        cfg.MODEL.ROI_MASKIOU_HEAD.LATER = 7
        return cfg

    for module in ("msrcnn.config", "msrcnn.ablation.digest"):
        monkeypatch.setattr(f"{module}.get_msrcnn_cfg", later)
    planned = plan()
    assert planned.variants["concat"][1].cfg.MODEL.ROI_MASKIOU_HEAD.LATER == 7
    assert folders(planned) == before
    opts = ["MODEL.ROI_MASKIOU_HEAD.LATER", "8"]
    assert not set(folders(plan(opts=opts))["concat"]) & set(before["concat"])


def test_custom_data_are_identified_by_their_annotations(plan, shapes_root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    data = {}
    for split in ("train", "val"):
        copy = tmp_path / "elsewhere" / f"{split}.json"
        copy.write_bytes((shapes_root / f"annotations/instances_{split}.json").read_bytes())
        data[f"{split}_data"] = [f"{copy}:{shapes_root / split}"]
    assert folders(plan(data=data)) == folders(plan())
    copy.write_text(copy.read_text() + "\n")  # of the last, val
    assert folders(plan(data=data)) != folders(plan())


def test_other_images_with_the_same_annotations_are_other_runs(plan, shapes_root, tmp_path):
    data, copy = custom_data(shapes_root), tmp_path / "copy"
    annotations = shapes_root / "annotations" / "instances_val.json"
    shutil.copytree(shapes_root / "val", copy, copy_function=shutil.copyfile)
    data["val_data"] = [f"{annotations}:{copy}"]
    assert folders(plan(data=data)) == folders(plan())
    blurred = shutil.copytree(copy, tmp_path / "blurred")
    for path in blurred.iterdir():
        with Image.open(path) as image:
            image.filter(ImageFilter.BLUR).save(path)
    data["val_data"] = [f"{annotations}:{blurred}"]
    assert not set(folders(plan(data=data))["concat"]) & set(folders(plan())["concat"])


def test_runs_on_a_dataset_with_a_name_keep_their_digest(shapes_root):
    """Earlier versions have finished runs with it."""
    name = "named data for the digest"
    annotations = shapes_root / "annotations" / "instances_val.json"
    register_coco_instances(name, {}, str(annotations), str(shapes_root / "val"))
    assert _data_digest(name) == hashlib.sha256(annotations.read_bytes()).hexdigest()


def test_the_same_config_under_another_name_is_the_same_run(plan):
    first = plan().variants["concat"][1]
    first.folder.mkdir(parents=True)
    other = plan(variants={"full": {}}, baseline="full").variants["full"][1]
    assert other.folder == first.folder


def test_head_only_starts_from_one_detector(plan):
    planned = plan(head_only=True)
    assert planned.runs[0] is planned.detector
    assert not planned.detector.cfg.MODEL.MASKIOU_ON
    assert planned.detector.cfg.SOLVER.TRAIN_ONLY == ()
    for run in planned.runs[1:]:
        assert run.start is planned.detector
        assert run.cfg.SOLVER.TRAIN_ONLY == ("maskiou_head",)
        assert run.cfg.SOLVER.MAX_ITER == 2
        assert planned.detector.cfg.SOLVER.MAX_ITER == 4


FIT = {"SOLVER.FIT_SCORES": True, "MODEL.ROI_MASKIOU_HEAD.SAMPLES": "detections"}


def test_joint_protocol_has_a_detector_for_each_seed(plan):
    """Trained with its head; a variant without a fit is evaluated with that head."""
    planned = plan(
        head_only=True, joint=True, seeds=[1, 5], variants={"concat": {}, "fit": {"set": FIT}}
    )
    assert list(planned.detectors) == [1, 5]
    assert planned.detector is None
    for seed, detector in planned.detectors.items():
        assert detector.seed == detector.cfg.SEED == seed
        assert detector.cfg.MODEL.MASKIOU_ON
        joint, fitted = (planned.variants[name][seed] for name in ("concat", "fit"))
        assert joint.start is fitted.start is detector
        assert not joint.trains
        assert fitted.fits
        assert joint.cfg.SOLVER.TRAIN_ONLY == fitted.cfg.SOLVER.TRAIN_ONLY == ()
    assert len({run.folder for run in planned.runs}) == 6
    assert len({planned.variants["fit"][seed].samples for seed in (1, 5)}) == 2
    assert "one Mask R-CNN per seed, which is trained for 4 steps together with" in describe(
        planned
    )


def test_joint_detectors_take_turns_with_their_variants(plan):
    variants = {"concat": {}, "fit": {"set": FIT}, "same": {"set": FIT}}
    planned = plan(head_only=True, joint=True, seeds=[1, 5], variants=variants)
    titles = [run.title for run in planned.runs]
    assert [title.rpartition(" ")[2] for title in titles] == ["1"] * 3 + ["5"] * 3
    assert titles[0] == "mask_rcnn seed 1"
    assert titles[3] == "mask_rcnn seed 5"


def test_joint_protocol_rejects_a_head_that_nobody_trains(plan):
    variants = {"concat": {}, "wide": {"set": {"MODEL.ROI_MASKIOU_HEAD.FC_DIM": 48}}}
    with pytest.raises(UserError, match="variant 'wide': the protocol is 'joint'"):
        plan(head_only=True, joint=True, variants=variants)


def test_another_detector_makes_other_heads(plan):
    wider = {"MODEL.ROI_BOX_HEAD.FC_DIM": 128}
    variants = {"concat": {"set": wider}, "multiply": {"set": {}}}
    with pytest.raises(UserError, match="variant 'concat': --head-only: .*ROI_BOX_HEAD.FC_DIM"):
        plan(head_only=True, variants=variants)
    with pytest.raises(UserError, match="--head-only: .*'head_only' .*change .*PER_IMAGE$"):
        plan(head_only=True, head_only_settings={"TEST.DETECTIONS_PER_IMAGE": 5})
    opts = ["MODEL.ROI_BOX_HEAD.FC_DIM", "128"]
    ours, theirs = plan(head_only=True), plan(head_only=True, opts=opts)
    assert ours.detector.folder != theirs.detector.folder
    assert not set(folders(ours)["concat"]) & set(folders(theirs)["concat"])


def test_the_head_has_a_schedule_of_its_own(plan, tmp_path):
    """The detector's epochs have stretched the period of its evaluations, not of the head's."""
    base = tmp_path / "base.yaml"
    smoke = CONFIG_ROOT / "quick/smoke_ms_rcnn_R_18_FPN.yaml"
    base.write_text(f"_BASE_: {smoke}\nSOLVER: {{EPOCHS: 9}}\nTEST: {{EVAL_PERIOD: 2}}\n")
    planned = plan(head_only=True, base=str(base))
    detector, head = planned.detector.cfg, planned.variants["concat"][1].cfg
    assert head.SOLVER.MAX_ITER == 2 < detector.SOLVER.MAX_ITER
    assert head.TEST.EVAL_PERIOD == 2 < detector.TEST.EVAL_PERIOD


def test_a_head_without_parameters_is_evaluated_only(plan):
    variants = {
        "concat": {},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    planned = plan(head_only=True, variants=variants)
    assert planned.variants["concat"][1].trains
    assert not planned.variants["confidence"][1].trains
    assert planned.variants["confidence"][1].steps == 0
    assert plan(variants=variants).variants["confidence"][1].trains  # the detector has to learn


def test_heads_of_one_detector_are_fitted_or_trained(plan):
    variants = {
        "concat": {},
        "proposals": {"set": PROPOSALS},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    planned = plan(head_only=True, head_only_settings=FITS, variants=variants)
    fitted, trained, evaluated = (runs[1] for runs in planned.variants.values())
    assert [run.fits for run in planned.runs[:3]] == [False, True, False]
    assert (fitted.steps, trained.steps, evaluated.steps) == (6, 2, 0)
    assert (fitted.trains, trained.trains, evaluated.trains) == (True, True, False)
    assert fitted.cfg.SOLVER.TRAIN_ONLY == ()
    assert trained.cfg.SOLVER.TRAIN_ONLY == ("maskiou_head",)
    assert not evaluated.fits
    assert (
        "2 steps of 2 images, 6 steps of 32 detections, 3 seeds; head only: the MaskIoU heads are "
        "trained on images or fitted to detections of one Mask R-CNN, which is trained for 4 "
        "steps and left unchanged."
    ) in describe(planned)


def test_fits_share_samples_if_their_heads_see_the_same(plan):
    variants = {
        "concat": {},
        "scalars": {
            "set": {
                "MODEL.ROI_MASKIOU_HEAD.INPUT_SCALARS": True,
                "MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES": "zero",
                "SOLVER.FIT_EXPONENTS": True,
            }
        },
        "multiply": {"set": {"MODEL.ROI_MASKIOU_HEAD.INPUT": "multiply"}},
        "all_masks": {"set": {"MODEL.ROI_MASKIOU_HEAD.INPUT": "all_masks"}},
        "lite": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskIoULiteHead"}},
    }
    planned = plan(head_only=True, head_only_settings=FITS, variants=variants)
    samples = {
        name: {run.samples for run in runs.values()} for name, runs in planned.variants.items()
    }
    assert all(len(folders) == 1 for folders in samples.values())  # whatever the seed
    assert samples["concat"] == samples["scalars"] == samples["multiply"]
    assert len(set.union(*samples.values())) == 3
    (folder,) = samples["concat"]
    assert folder.is_relative_to(planned.detector.folder)


def test_fits_need_one_detector(plan):
    with pytest.raises(UserError, match="variant 'concat': SOLVER.FIT_SCORES needs --head-only"):
        plan(variants={"concat": {"set": {"SOLVER.FIT_SCORES": True}}})


def test_head_only_needs_a_schedule(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, head_only=None))
    with pytest.raises(UserError, match="no schedule for it in protocol 'full'"):
        make_plan(sweep, "full", tmp_path, head_only=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"MODEL.ROI_MASKIOU_HEAD.INPUTS": "x"},
            "no key .*; nearest: .*HEAD.INPUT",
        ),
        ({"SEED": 7}, "'set' has SEED, which is set by the protocol's 'seeds'"),
        ({"MODEL.ROI_MASKIOU_HEAD.INPUT": "sum"}, "INPUT is 'sum'; allowed: 'concat'"),
        ({"MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE": "l1"}, "LOSS_TYPE is 'l1'"),
        (
            {"MODEL.ROI_MASKIOU_HEAD.NUM_CONV": "four"},
            "NUM_CONV is four; it must be a whole",
        ),
        ({"SOLVER.OPTIMIZER": "adam"}, "SOLVER.OPTIMIZER is 'adam'"),
        ({"MODEL.RPN.IN_FEATURES": ["p9"]}, "its model cannot be built"),
        ({"MODEL.WEIGHTS": "nowhere.pth"}, "MODEL.WEIGHTS 'nowhere.pth'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(settings, message, plan, tmp_path):
    variants = {"concat": {}, "wrong": {"set": settings}}
    with pytest.raises(UserError, match=f"sample.yaml, variant 'wrong': .*{message}"):
        plan(variants=variants)
    assert not (tmp_path / "runs").exists()


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(plan):
    with pytest.raises(UserError, match="^command line: there is no key 'SOLVER.BASE'"):
        plan(opts=["SOLVER.BASE", "1"])
    with pytest.raises(UserError, match="^command line: SOLVER.MAX_ITER has no value; give"):
        plan(opts=["SOLVER.MAX_ITER"])
    with pytest.raises(UserError, match="^command line: SEED is set by 'seeds'"):
        plan(opts=["SEED", "1"])


def test_steps_are_those_that_will_be_taken(plan):
    opts = ["SOLVER.AUTO_SCALE", "True", "SOLVER.IMS_PER_BATCH", "1"]
    run = plan(opts=opts).variants["concat"][1]
    assert run.steps == 8  # twice as many of half the size
    assert "8 steps of 1 image" in describe(plan(opts=opts))
    variants = {"concat": {"set": {"SOLVER.MAX_ITER": 9}}, "multiply": {}}
    assert "; 4 to 9 steps of 2 images" in describe(plan(variants=variants))


def test_epochs_and_iterations_of_a_sweep_replace_each_other(plan):
    """As on the command line of ``msrcnn train``; values as given are not stretched."""

    def solver(*, variant=(), opts=(), **changes):
        variants = {"concat": {"set": dict(variant)}}
        return plan(variants=variants, opts=opts, **changes).variants["concat"][1].cfg.SOLVER

    epochs, iterations = {"SOLVER.EPOCHS": 3}, {"SOLVER.MAX_ITER": 700, "SOLVER.STEPS": [500]}
    stretched = solver(set=epochs)
    assert stretched.MAX_ITER not in (4, 700)
    given = solver(set=epochs, variant=iterations)
    assert (given.MAX_ITER, given.STEPS, given.EPOCHS) == (700, (500,), 0)
    assert solver(set=iterations, variant=epochs).MAX_ITER == stretched.MAX_ITER
    assert solver(set=epochs, opts=["SOLVER.MAX_ITER", "9"]).MAX_ITER == 9
    assert solver(set={**epochs, "SOLVER.STEPS": [5]}).STEPS == (5,)
    message = "SOLVER.EPOCHS sets SOLVER.MAX_ITER, which is also given: choose one"
    with pytest.raises(UserError, match=f"variant 'concat': {message}"):
        solver(set={**epochs, **iterations})
    with pytest.raises(UserError, match=f"^{message}"):
        solver(opts=["SOLVER.MAX_ITER", "9", "SOLVER.EPOCHS", "3"])


def test_checkpoints_are_frequent_and_few(plan):
    solver = plan().variants["concat"][1].cfg.SOLVER
    assert (solver.CHECKPOINT_MINUTES, solver.CHECKPOINT_KEEP) == (5, 2)
    opts = ["SOLVER.CHECKPOINT_MINUTES", "30", "SOLVER.CHECKPOINT_KEEP", "4"]
    solver = plan(opts=opts).variants["concat"][1].cfg.SOLVER
    assert (solver.CHECKPOINT_MINUTES, solver.CHECKPOINT_KEEP) == (30, 4)


def test_missing_data_are_reported(plan):
    with pytest.raises(UserError, match="variant 'concat': .*does not exist"):
        plan(opts=["DATASETS.TRAIN", "('coco_2014_train',)"], data={})


def test_a_sweep_evaluates_on_one_dataset(plan, shapes_root):
    train = f"{shapes_root}/annotations/instances_train.json:{shapes_root}/train"
    with pytest.raises(UserError, match="names 0 datasets, .*: give --val-data"):
        plan(data={"train_data": [train]})


def test_a_sweep_evaluates_on_annotated_data(plan, shapes_root, tmp_path):
    """The metrics of a test set are not known: found before the runs, not after them."""
    data = custom_data(shapes_root)
    path, images = data["val_data"][0].split(":")
    content = json.loads(Path(path).read_text())
    del content["annotations"]
    test_set = tmp_path / "test.json"
    test_set.write_text(json.dumps(content))
    with pytest.raises(UserError, match="test.json has no instance to compare detections with"):
        plan(data={**data, "val_data": [f"{test_set}:{images}"]})


def test_a_sweep_evaluates_on_data_with_the_metric_of_the_best_weights(plan, shapes_root, tmp_path):
    data = custom_data(shapes_root)
    path, images = data["val_data"][0].split(":")
    content = json.loads(Path(path).read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps(content))
    best = {"SOLVER.KEEP_BEST": "segm_box_score/AP", "TEST.EVAL_PERIOD": 1}
    with pytest.raises(UserError, match="SOLVER.KEEP_BEST 'segm_box_score/AP': .*boxes.json"):
        plan(set=best, data={**data, "val_data": [f"{boxes}:{images}"]})


def test_variants_are_evaluated_on_the_dataset_of_the_baseline(plan, without_data):
    """Otherwise their differences would be those of the datasets."""
    variants = {"other": {"set": {"DATASETS.TEST": ["shapes_test"]}}, "concat": {}}
    message = "variant 'other': .* on 'shapes_test', but the baseline 'concat' on 'shapes_val'"
    with pytest.raises(UserError, match=message):
        plan(variants=variants, data={})


def test_costs_are_there_where_they_are_reported(plan):
    report = {"AP": "segm_mask_score/AP", "parameters": "cost/parameters"}
    variants = {
        "concat": {},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    assert plan().costs == {}
    costs = plan(report=report, variants=variants).costs
    assert costs["concat"]["parameters"] > 0
    assert costs["confidence"] == {"parameters": 0, "multiply_adds": 0}


def test_folders_are_below_the_runs(plan, tmp_path):
    assert all(Path(run.folder).parent == tmp_path / "runs" for run in plan().runs)


def test_part_of_a_plan(plan):
    convs = "MODEL.ROI_MASKIOU_HEAD.NUM_CONV"
    variants = {"concat": {}, "three": {"set": {convs: 3}}, "two": {"set": {convs: 2}}}
    whole = plan(variants=variants)
    part = whole.part(["two", "three"])
    assert list(part.variants) == ["three", "two"]  # in the order of the file
    assert part.runs == [run for run in whole.runs if run.name != "concat"]
    assert part.sweep is whole.sweep
    with pytest.raises(UserError, match=r"has no variant 'four'; it has 'concat', 'three', 'two'"):
        whole.part(["two", "four"])
