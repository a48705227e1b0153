from pathlib import Path

import pytest
import yaml
from made_sweeps import own_data, write_sweep

import msrcnn
from msrcnn.ablation import load_sweep, make_plan
from msrcnn.ablation.plan import describe
from msrcnn.config import CONFIG_ROOT, get_msrcnn_cfg
from msrcnn.errors import UserError

TABLES = ("head_input", "training_target", "sample_threshold", "loss", "head_cost")


@pytest.fixture
def plan(tmp_path, shapes_root):
    """Make the plan of a made sweep on the small dataset."""
    data = own_data(shapes_root)

    def plan(*, head_only=False, opts=(), arguments=None, **changes):
        sweep = load_sweep(write_sweep(tmp_path, **changes))
        protocol = sweep.protocol(None, quick=False)
        arguments = data if arguments is None else arguments
        return make_plan(
            *(sweep, protocol, tmp_path / "runs"),
            head_only=head_only,
            arguments=arguments,
            opts=opts,
        )

    return plan


@pytest.mark.parametrize("name", TABLES)
def test_variants_of_the_full_protocol_are_the_configs_of_the_rows(name):
    """`configs/ablations/NAME.yaml` and the folder `NAME/` say the same."""
    sweep = load_sweep(name)
    rows = {path.stem for path in (CONFIG_ROOT / "ablations" / name).glob("*.yaml")}
    assert {variant.name for variant in sweep.variants} == rows
    for variant in sweep.variants:
        cfg = msrcnn.get_config(sweep.protocols["full"].base)
        cfg.merge_from_list([item for pair in variant.overrides.items() for item in pair])
        row = msrcnn.get_config(f"ablations/{name}/{variant.name}.yaml")
        row.SEED = cfg.SEED
        assert cfg == row


def all_protocols():
    for path in sorted((CONFIG_ROOT / "ablations").glob("*.yaml")):
        for protocol in yaml.safe_load(path.read_text()).get("quick", {}):
            yield path.stem, protocol


@pytest.mark.parametrize(("name", "protocol"), all_protocols())
def test_quick_protocols_can_be_planned(name, protocol, tmp_path, without_data):
    sweep = load_sweep(name)
    head_only = sweep.protocols[protocol].head_only is not None
    made = make_plan(sweep, sweep.protocols[protocol], tmp_path, head_only=head_only)
    seeds = len(sweep.protocols[protocol].seeds)
    trained = sum(runs[1].trains for runs in made.variants.values())
    # Where there is nothing to train, one run serves all seeds.
    assert len(made.runs) == trained * seeds + (len(sweep.variants) - trained) + head_only
    assert describe(made).startswith("Quick protocol")
    assert ("head only" in describe(made)) == head_only
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
    made = plan(set=short, head_only=True)
    assert made.detector.steps == 3
    assert made.variants["concat"][1].steps == 2  # the schedule of the head goes before
    made = plan(set=short)
    assert {run.steps for run in made.runs} == {3}


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

    for module in ("msrcnn.config", "msrcnn.engine.defaults", "msrcnn.ablation.plan"):
        monkeypatch.setattr(f"{module}.get_msrcnn_cfg", later)
    made = plan()
    assert made.variants["concat"][1].cfg.MODEL.ROI_MASKIOU_HEAD.LATER == 7
    assert folders(made) == before
    opts = ["MODEL.ROI_MASKIOU_HEAD.LATER", "8"]
    assert not set(folders(plan(opts=opts))["concat"]) & set(before["concat"])


def test_own_data_are_their_annotations(plan, shapes_root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    arguments = {}
    for split in ("train", "val"):
        copy = tmp_path / "elsewhere" / f"{split}.json"
        copy.write_bytes((shapes_root / f"annotations/instances_{split}.json").read_bytes())
        arguments[f"{split}_data"] = f"{copy}:{shapes_root / split}"
    assert folders(plan(arguments=arguments)) == folders(plan())
    copy.write_text(copy.read_text() + "\n")  # of the last, val
    assert folders(plan(arguments=arguments)) != folders(plan())


def test_the_same_config_under_another_name_is_the_same_run(plan):
    first = plan().variants["concat"][1]
    first.folder.mkdir(parents=True)
    other = plan(variants={"full": {}}, baseline="full").variants["full"][1]
    assert other.folder == first.folder


def test_head_only_starts_from_one_detector(plan):
    made = plan(head_only=True)
    assert made.runs[0] is made.detector
    assert not made.detector.cfg.MODEL.MASKIOU_ON
    assert made.detector.cfg.SOLVER.TRAIN_ONLY == ()
    for run in made.runs[1:]:
        assert run.start is made.detector
        assert run.cfg.SOLVER.TRAIN_ONLY == ("maskiou_head",)
        assert run.cfg.SOLVER.MAX_ITER == 2
        assert made.detector.cfg.SOLVER.MAX_ITER == 4


def test_another_detector_makes_other_heads(plan):
    wider = {"MODEL.ROI_BOX_HEAD.FC_DIM": 128}
    variants = {"concat": {"set": wider}, "multiply": {"set": {}}}
    with pytest.raises(UserError, match="variant 'concat': --head-only: .*ROI_BOX_HEAD.FC_DIM"):
        plan(head_only=True, variants=variants)
    opts = ["MODEL.ROI_BOX_HEAD.FC_DIM", "128"]
    ours, theirs = plan(head_only=True), plan(head_only=True, opts=opts)
    assert ours.detector.folder != theirs.detector.folder
    assert not set(folders(ours)["concat"]) & set(folders(theirs)["concat"])


def test_a_head_without_parameters_is_evaluated_only(plan):
    variants = {
        "concat": {},
        "confidence": {"set": {"MODEL.ROI_MASKIOU_HEAD.NAME": "MaskConfidenceHead"}},
    }
    made = plan(head_only=True, variants=variants)
    assert made.variants["concat"][1].trains
    assert not made.variants["confidence"][1].trains
    assert made.variants["confidence"][1].steps == 0
    assert plan(variants=variants).variants["confidence"][1].trains  # the detector has to learn


def test_head_only_needs_a_schedule(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, head_only=None))
    with pytest.raises(UserError, match="no schedule for it in protocol 'full'"):
        make_plan(sweep, sweep.protocols["full"], tmp_path, head_only=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"MODEL.ROI_MASKIOU_HEAD.INPUTS": "x"}, "is no config key; nearest: .*HEAD.INPUT"),
        ({"SEED": 7}, "'set' has SEED, which the protocol's 'seeds' give"),
        ({"MODEL.ROI_MASKIOU_HEAD.INPUT": "sum"}, "INPUT is 'sum'; allowed: 'concat'"),
        ({"MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE": "l1"}, "LOSS_TYPE is 'l1'"),
        ({"MODEL.ROI_MASKIOU_HEAD.NUM_CONV": "four"}, "Type mismatch"),
        ({"SOLVER.OPTIMIZER": "adam"}, "SOLVER.OPTIMIZER is 'adam'"),
        ({"MODEL.RESNETS.DEPTH": 19}, "its model cannot be built"),
        ({"MODEL.WEIGHTS": "nowhere.pth"}, "MODEL.WEIGHTS 'nowhere.pth'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(settings, message, plan, tmp_path):
    variants = {"concat": {}, "wrong": {"set": settings}}
    with pytest.raises(UserError, match=f"made.yaml, variant 'wrong': .*{message}"):
        plan(variants=variants)
    assert not (tmp_path / "runs").exists()


def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(plan):
    with pytest.raises(UserError, match="^command line: Non-existent key: SOLVER.BASE"):
        plan(opts=["SOLVER.BASE", "1"])
    with pytest.raises(UserError, match="^command line: SEED is given"):
        plan(opts=["SEED", "1"])


def test_steps_are_those_that_will_be_taken(plan):
    opts = ["SOLVER.AUTO_SCALE", "True", "SOLVER.IMS_PER_BATCH", "8"]
    run = plan(opts=opts).variants["concat"][1]
    assert run.steps == 8  # twice as many of half the size
    assert "8 steps of 8 images" in describe(plan(opts=opts))
    variants = {"concat": {"set": {"SOLVER.MAX_ITER": 9}}, "multiply": {}}
    assert "; 4 to 9 steps of 2 images" in describe(plan(variants=variants))


def test_checkpoints_are_frequent_and_few(plan):
    solver = plan().variants["concat"][1].cfg.SOLVER
    assert (solver.CHECKPOINT_MINUTES, solver.CHECKPOINT_KEEP) == (5, 2)
    opts = ["SOLVER.CHECKPOINT_MINUTES", "30", "SOLVER.CHECKPOINT_KEEP", "4"]
    solver = plan(opts=opts).variants["concat"][1].cfg.SOLVER
    assert (solver.CHECKPOINT_MINUTES, solver.CHECKPOINT_KEEP) == (30, 4)


def test_missing_data_are_found(plan):
    with pytest.raises(UserError, match="variant 'concat': .*does not exist"):
        plan(opts=["DATASETS.TRAIN", "('coco_2014_train',)"], arguments={})


def test_a_sweep_evaluates_on_one_dataset(plan, shapes_root):
    train = f"{shapes_root}/annotations/instances_train.json:{shapes_root}/train"
    with pytest.raises(UserError, match="names 0 datasets; .*give --val-data"):
        plan(arguments={"train_data": train})


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
