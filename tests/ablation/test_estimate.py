"""What a sweep with fits says about its work, before and while it is done."""

from types import SimpleNamespace

import pytest
from sample_sweeps import FITS, PROPOSALS, custom_data, finish, write_sweep

from msrcnn.ablation import estimate as estimate_module
from msrcnn.ablation import load_sweep, make_plan
from msrcnn.ablation.display import training_cells
from msrcnn.ablation.estimate import estimate


@pytest.fixture
def make(tmp_path, shapes_root, monkeypatch):
    """Plans a head-only sweep with two seeds; a step takes 30 seconds."""
    monkeypatch.setattr(estimate_module, "seconds_per_step", lambda run, num_gpus: 30.0)

    def make(**changes):
        sweep = load_sweep(write_sweep(tmp_path, seeds=[1, 2], **changes))
        data = custom_data(shapes_root)
        return make_plan(sweep, "full", tmp_path / "runs", head_only=True, **data)

    return make


@pytest.fixture
def plan(make):
    """A plan of two variants that are fitted, and one that is trained."""
    variants = {
        "concat": {},
        "l2_rank": {"set": {"MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE": "l2_rank"}},
        "proposals": {"set": PROPOSALS},
    }
    return make(head_only=FITS, variants=variants)


def complete_samples(run):
    run.samples.mkdir(parents=True)
    (run.samples / "complete").touch()


def test_fits_are_not_timed(plan):
    def row(name):
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
        return " ".join(line.split()[1:])

    text = estimate(plan, places=1, num_gpus=0)
    assert row("mask_rcnn") == "1 0 4 x 2 images 30.00 0:02:00"
    assert row("concat") == "2 0 6 x 32 detections - not known"
    assert row("proposals") == "2 0 2 x 2 images 30.00 0:02:00"
    assert "Training: about 0:04:00 in total" in text
    assert "Not timed: 1 pass over the training images, 4 fits, the evaluations." in text

    for run in (plan.detector, plan.variants["concat"][1], *plan.variants["l2_rank"].values()):
        finish(run, 30.0)
    complete_samples(plan.variants["concat"][1])
    text = estimate(plan, places=1, num_gpus=0)
    assert row("concat") == "2 1 6 x 32 detections - not known"
    assert row("l2_rank") == "2 2 6 x 32 detections - 0:00:00"
    assert "Not timed: 1 fit, the evaluations." in text


def test_variants_wait_for_the_detector_that_they_share(plan):
    text = estimate(plan, places=2, num_gpus=0)
    assert "about 0:04:00 in total, at best 0:03:00 with 2 runs at a time" in text


def test_joint_detectors_are_trained_at_the_same_time(make):
    plan = make(joint=True, variants={"concat": {}})
    text = estimate(plan, places=2, num_gpus=0)
    assert "about 0:04:00 in total, at best 0:02:00 with 2 runs at a time" in text
    text = estimate(plan, places=4, num_gpus=0)
    assert "at best 0:02:00 with 4 runs at a time" in text  # each of them takes as long


def test_runs_that_variants_share_are_counted_once(make):
    plan = make(variants={"concat": {}, "same": {}})
    assert "Training: about 0:04:00 in total" in estimate(plan, places=1, num_gpus=0)


def test_progress_of_a_fit_is_what_it_does(plan):
    run = plan.variants["concat"][1]
    run.folder.mkdir(parents=True)
    assert training_cells(run) == ("samples", "", "")
    plan.detector.folder.mkdir()
    complete_samples(run)
    assert training_cells(run) == ("fit", "", "")
    (run.folder / "fit.json").touch()
    assert training_cells(run) == ("evaluation", "", "")


def test_timed_steps_do_not_change_the_weights(tiny_cfg, monkeypatch):
    """From random weights, training with a learning rate could diverge."""
    timed = []
    monkeypatch.setattr(estimate_module, "_time_step", lambda cfg: timed.append(cfg) or 1.0)
    monkeypatch.setattr(estimate_module, "progress", lambda run: {})
    tiny_cfg.SOLVER.IMS_PER_BATCH, tiny_cfg.SOLVER.ACCUMULATE_STEPS = 8, 4
    assert estimate_module.seconds_per_step(SimpleNamespace(cfg=tiny_cfg), 0) == 4.0
    (cfg,) = timed
    assert cfg.SOLVER.BASE_LR == 0
    # Of fewer images than could be divided into the parts of a step.
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE_STEPS) == (2, 1)
