"""Head-only sweeps whose heads are fitted to the samples of one detector."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from sample_sweeps import FITS, PROPOSALS, custom_data, write_sweep

from msrcnn.ablation import job as job_module
from msrcnn.ablation import load_sweep, make_plan, run_all, samples_note
from msrcnn.ablation.collect import collect
from msrcnn.ablation.job import RunJob, create_folder
from msrcnn.ablation.launcher import Job, JobState, Launcher
from msrcnn.ablation.scheduler import Status
from msrcnn.scores import ScoreFit
from msrcnn.scores.sample_cache import SampleCache

# A detector that has learned something.
DETECTOR = {
    "SOLVER.MAX_ITER": 30,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.002,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.02,
    "TEST.BOOTSTRAP": 20,
}
L2_RANK = {"set": {"MODEL.ROI_MASKIOU_HEAD.LOSS_TYPE": "l2_rank"}}


class Ended(Job):
    def state(self):
        return JobState.SUCCEEDED


class InProcess(Launcher):
    """Runs jobs in this process."""

    num_gpus = 0

    def has_place(self):
        return True

    def submit(self, function, folder, name):
        function()
        return Ended()

    def stop(self):
        return ""


def planned(folder, shapes_root, variants, runs_dir=None, **more):
    settings = {**FITS, "SOLVER.FIT_HELD_OUT": 0.3}
    changes = {"seeds": [1], "set": DETECTOR, "head_only": settings, "variants": variants, **more}
    sweep = load_sweep(write_sweep(folder, **changes))
    runs_dir = runs_dir or folder / "runs"
    return make_plan(sweep, "full", runs_dir, head_only=True, **custom_data(shapes_root))


def run_sweep(plan):
    """Runs a sweep; returns how often the detector ran over the training images."""
    collect, passes = ScoreFit.collect, []

    def counted(self):
        passes.append(self)
        collect(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoreFit, "collect", counted)
        states = run_all(plan, InProcess(), lambda states: None, "sample")
    assert {state.status for state in states} == {Status.DONE}, [s.reason for s in states]
    return len(passes)


@pytest.fixture(scope="module")
def sweep(shapes_root, tmp_path_factory):
    """A finished sweep of two fits and a training, and the number of its passes."""
    variants = {"concat": {}, "l2_rank": L2_RANK, "proposals": {"set": PROPOSALS}}
    plan = planned(tmp_path_factory.mktemp("sweep"), shapes_root, variants)
    return plan, run_sweep(plan)


def evaluation(run):
    return json.loads((run.folder / "result.json").read_text())["evaluation"]


def head(run):
    weights = torch.load(run.folder / "model_fitted.pth", weights_only=True)["model"]
    return {name: tensor for name, tensor in weights.items() if "maskiou_head" in name}


def equal(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_one_pass_serves_all_fits_of_a_detector(sweep):
    plan, passes = sweep
    assert passes == 1
    box = evaluation(plan.detector)
    runs = {name: runs[1] for name, runs in plan.variants.items()}
    for run in runs.values():
        found = evaluation(run)
        for key in ("bbox", "segm_box_score", "segm_oracle"):
            assert found[key] == box[key], (run.name, key)
        assert found["segm_mask_score"]["AP"] is not None
    assert not equal(head(runs["concat"]), head(runs["l2_rank"]))
    trained = torch.load(runs["proposals"].folder / "model_final.pth", weights_only=True)["model"]
    assert not equal({name: trained[name] for name in head(runs["concat"])}, head(runs["concat"]))
    assert not (runs["proposals"].folder / "fit.json").exists()
    note = samples_note(plan)
    assert str(plan.detector.folder / "samples") in note
    assert "can be deleted" in note


@pytest.mark.slow
def test_joint_sweep(shapes_root, tmp_path):
    """Every seed has its detector, which scores masks itself and is fitted to."""
    variants = {"concat": {"set": PROPOSALS}, "fitted": {}}
    plan = planned(tmp_path, shapes_root, variants, seeds=[1, 2], joint=True, baseline="concat")
    assert run_sweep(plan) == 2
    for seed, detector in plan.detectors.items():
        expected = evaluation(detector)
        joint, fitted = (evaluation(plan.variants[name][seed]) for name in ("concat", "fitted"))
        assert joint["segm_mask_score"] == expected["segm_mask_score"]
        assert fitted["segm_box_score"] == expected["segm_box_score"]
        assert fitted["maskiou"]["pearson"] != expected["maskiou"]["pearson"]
    results = collect(plan)
    assert results["detector"] is None
    assert results["missing"] == []
    assert [run["seed"] for run in results["variants"]["concat"]["runs"]] == [1, 2]
    assert samples_note(plan).count("samples") == 2


@pytest.mark.parametrize(
    ("metric", "name"),
    # The last one has no value if no object is large.
    [("", "final"), ("bbox/AP", "best"), ("bbox/APl", "final")],
)
@pytest.mark.parametrize("joint", [False, True])
def test_heads_start_from_the_weights_that_a_training_chooses(
    joint, metric, name, shapes_root, tmp_path, monkeypatch
):
    launched = []
    monkeypatch.setattr(job_module, "launch_processes", lambda main, how: launched.append(main))
    monkeypatch.setattr(job_module, "record_result", lambda *args: None)
    settings = {**DETECTOR, "SOLVER.KEEP_BEST": metric, "TEST.EVAL_PERIOD": 10}
    variants = {"concat": {"set": PROPOSALS}, "fitted": {}}
    plan = planned(tmp_path, shapes_root, variants, set=settings, joint=joint)
    create_folder(plan.detector)
    weights = plan.detector.folder / f"model_{name}.pth"
    weights.touch()
    for variant in variants:
        run = plan.variants[variant][1]
        create_folder(run)
        RunJob(run, plan.train_data, plan.val_data, 0, None, "sample")()
    assert len(launched) == 3  # one, and a pass and a fit
    assert {main.args[0].MODEL.WEIGHTS for main in launched} == {str(weights)}


@pytest.mark.slow
def test_another_sweep_of_the_detector_needs_no_pass(sweep, shapes_root, tmp_path):
    first, _ = sweep
    variants = {"concat": {"set": {"MODEL.ROI_MASKIOU_HEAD.FALSE_POSITIVES": "zero"}}}
    plan = planned(tmp_path, shapes_root, variants, runs_dir=first.runs_dir)
    before = (first.detector.folder / "result.json").stat().st_mtime_ns
    assert not plan.variants["concat"][1].finished
    assert run_sweep(plan) == 0
    assert (plan.detector.folder / "result.json").stat().st_mtime_ns == before


class Killed(BaseException):
    """Stands in for a signal that ends the process."""


@pytest.mark.slow
def test_killed_fit_starts_again_with_the_same_result(sweep, shapes_root, monkeypatch):
    plan, _ = sweep
    run = plan.variants["concat"][1]
    expected_head, expected = head(run), evaluation(run)
    shutil.rmtree(run.folder)
    create_folder(run)
    job = RunJob(run, plan.train_data, plan.val_data, 0, None, "sample")
    batch, read = SampleCache.batch, []

    def killed_at_the_third(self, *args):
        read.append(args)
        if len(read) == 3:
            raise Killed
        return batch(self, *args)

    monkeypatch.setattr(SampleCache, "batch", killed_at_the_third)
    with pytest.raises(Killed):
        job()
    assert not run.finished
    job()
    assert equal(head(run), expected_head)
    for found in (expected, again := evaluation(run)):
        del found["seconds"]
    assert again == expected


def test_two_fits_at_once_make_one_pass(shapes_root, tmp_path, monkeypatch):
    """The second waits for the pass of the first; then both fit at the same time."""
    plan = planned(tmp_path, shapes_root, {"concat": {}, "l2_rank": L2_RANK})
    both_wait, both_fit = (threading.Barrier(2, timeout=60) for _ in range(2))
    passes = []

    def collect(cfg, samples):
        passes.append(samples)
        samples.mkdir()
        (samples / "complete").touch()

    def fit(cfg, samples):
        both_fit.wait()
        Path(cfg.OUTPUT_DIR, "evaluation.json").write_text("{}")

    def lock(path):
        if Path(path).parent == runs[0].samples.parent:
            both_wait.wait()  # neither has begun the pass
        return FileLock(path)

    monkeypatch.setattr(job_module, "FileLock", lock)
    monkeypatch.setattr(job_module, "_collect", collect)
    monkeypatch.setattr(job_module, "_fit_and_evaluate", fit)
    (detector := plan.detector.folder).mkdir(parents=True)
    (detector / "model_final.pth").touch()
    runs = [runs[1] for runs in plan.variants.values()]
    threads = []
    for run in runs:
        create_folder(run)
        job = RunJob(run, plan.train_data, plan.val_data, 0, None, "sample")
        threads.append(threading.Thread(target=job))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(run.finished for run in runs)
    assert passes == [runs[0].samples]
