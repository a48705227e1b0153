"""A run that was killed and resumed gives the same result as one that never stopped."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal

import pytest
import torch
from training_process import register, run_cfg, train

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.engine import Trainer
from msrcnn.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes():
    """Returns a function that runs ``train`` in a new process and returns its exit code.

    The fork server has everything imported, so that processes start fast.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_process"])

    def start(*arguments, **kwargs):
        process = context.Process(target=train, args=arguments, kwargs=kwargs)
        process.start()
        process.join()
        return process.exitcode

    return start


def losses(folder):
    """Returns the losses of each iteration, once for every time that it was run."""
    by_iteration = {}
    for line in (folder / "losses.jsonl").read_text().splitlines():
        found = json.loads(line)
        by_iteration.setdefault(found.pop("iteration"), []).append(found)
    return by_iteration


def final(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)


def assert_equal(found, expected, path=""):
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), path
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), path
        for key in expected:
            assert_equal(found[key], expected[key], f"{path}/{key}")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), path
        for index, (a, b) in enumerate(zip(found, expected)):
            assert_equal(a, b, f"{path}/{index}")
    else:
        assert found == expected, path


@pytest.fixture(scope="module")
def never_stopped(processes, shapes_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("never_stopped")
    assert processes(str(shapes_root), run_cfg(shapes_root, folder)) == 0
    return folder


@pytest.fixture(scope="module")
def killed(processes, shapes_root, tmp_path_factory):
    """A run killed during its fourth save, the checkpoint after 8 iterations."""
    folder = tmp_path_factory.mktemp("killed")
    cfg = run_cfg(shapes_root, folder)
    assert processes(str(shapes_root), cfg, kill_in_save=4) == -signal.SIGKILL
    return folder


def check_same(folder, never_stopped):
    """Compares model, optimizer, schedule, seed and the losses of all iterations."""
    found = final(folder)
    found["trainer"]["hooks"].pop("KeepBest", None)
    assert_equal(found, final(never_stopped))
    expected, found = losses(never_stopped), losses(folder)
    assert found.keys() == expected.keys() == set(range(9))
    for iteration, each in found.items():
        assert all(again == expected[iteration][0] for again in each), iteration


def test_killed_at_random_moments(processes, shapes_root, never_stopped, tmp_path):
    cfg = run_cfg(shapes_root, tmp_path)
    moments, seconds = random.Random(3), float((never_stopped / "seconds").read_text())
    steps_before_kills = []
    for _ in range(5):
        moment = seconds * moments.uniform(0.02, 0.6)
        if processes(str(shapes_root), cfg, kill_after=moment) == -signal.SIGKILL:
            log = tmp_path / "losses.jsonl"
            steps_before_kills.append(len(log.read_text().splitlines()) if log.is_file() else 0)
    # The kills hit training, and at different iterations.
    assert len(set(steps_before_kills)) >= 2
    assert processes(str(shapes_root), cfg) == 0
    check_same(tmp_path, never_stopped)


def test_killed_in_the_middle_of_a_save(killed, processes, shapes_root, never_stopped, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "run")
    saved = sorted(path.name for path in folder.glob("model_*.pth"))
    # There is no incomplete checkpoint, and the last two are kept.
    assert saved == ["model_0000003.pth", "model_0000005.pth"]
    assert len(list(folder.glob(".*.part"))) == 1
    cfg = run_cfg(shapes_root, folder, **{"DATALOADER.NUM_WORKERS": 2})  # a different number
    assert processes(str(shapes_root), cfg) == 0
    assert not list(folder.glob(".*.part"))
    check_same(folder, never_stopped)


def test_killed_in_the_first_save(processes, shapes_root, never_stopped, tmp_path):
    cfg = run_cfg(shapes_root, tmp_path, **{"DATALOADER.NUM_WORKERS": 2})
    assert processes(str(shapes_root), cfg, kill_in_save=1) == -signal.SIGKILL
    assert not list(tmp_path.glob("model_*.pth"))
    assert processes(str(shapes_root), cfg) == 0
    check_same(tmp_path, never_stopped)


def damage(path, kind):
    content = path.read_bytes()
    middle = len(content) // 2
    if kind == "cut":
        path.write_bytes(content[:middle])
    elif kind == "flipped":  # a single bit
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("kind", ["cut", "flipped", "empty", "missing"])
def test_damaged_last_checkpoint(killed, tmp_path, kind, tiny_cfg, build, caplog):
    folder = shutil.copytree(killed, tmp_path / "run")
    assert (folder / "last_checkpoint").read_text() == "model_0000005.pth"
    damage(folder / "model_0000005.pth", kind)
    checkpointer = MaskScoringCheckpointer(build(tiny_cfg), str(folder))
    state = checkpointer.resume_or_load("", resume=True)
    assert state["iteration"] == 3
    if kind != "missing":
        assert "model_0000005.pth' is damaged; trying the one before it" in caplog.text


def test_training_resumes_from_the_previous_checkpoint(
    killed, processes, shapes_root, never_stopped, tmp_path
):
    folder = shutil.copytree(killed, tmp_path / "run")
    damage(folder / "model_0000005.pth", "flipped")
    assert processes(str(shapes_root), run_cfg(shapes_root, folder)) == 0
    check_same(folder, never_stopped)


@pytest.fixture
def small_run(tmp_path):
    """Saves two checkpoints of a small model; returns a function that builds a checkpointer."""

    def checkpointer():
        return MaskScoringCheckpointer(torch.nn.Linear(3, 2), str(tmp_path))

    for iteration in (1, 3):
        checkpointer().save(f"model_{iteration:07d}", iteration=iteration)
    return checkpointer


def test_no_flipped_bit_gets_through(small_run, tmp_path):
    """Flips bits anywhere in the file: in tensors, between them and in the zip directory."""
    path = tmp_path / "model_0000003.pth"
    whole = path.read_bytes()
    expected = torch.load(path, weights_only=True)
    rng, iterations = random.Random(5), []
    for _ in range(300):
        place, bit = rng.randrange(len(whole)), rng.randrange(8)
        flipped = bytes([whole[place] ^ (1 << bit)])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        checkpointer = small_run()
        iterations.append(checkpointer.resume_or_load("", resume=True)["iteration"])
        if iterations[-1] == 3:  # a byte that is not read
            assert_equal(dict(checkpointer.model.state_dict()), dict(expected["model"]))
    assert set(iterations) == {1, 3}


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 5000, b"../../etc/passwd", b""])
def test_last_checkpoint_file_with_invalid_content(small_run, tmp_path, content):
    (tmp_path / "last_checkpoint").write_bytes(content)
    assert small_run().resume_or_load("", resume=True)["iteration"] == 3


def test_checkpoints_are_ordered_by_time_not_by_iteration(small_run, tmp_path):
    for iteration in (88000, 90000):
        (tmp_path / f"model_{iteration:07d}.pth").write_bytes(
            (tmp_path / "model_0000001.pth").read_bytes()
        )
        os.utime(tmp_path / f"model_{iteration:07d}.pth", (1, iteration))
    checkpointer = small_run()
    checkpointer.keep = 2
    checkpointer.save("model_0000005", iteration=5)
    assert {p.name for p in tmp_path.glob("model_*")} == {"model_0000003.pth", "model_0000005.pth"}
    damage(tmp_path / "model_0000005.pth", "cut")
    assert small_run().resume_or_load("", resume=True)["iteration"] == 3


def test_full_disk_during_training(tmp_path, shapes_root, caplog):
    """Training ends with a clear error, and does not evaluate."""
    register(shapes_root)
    cfg = run_cfg(shapes_root, tmp_path)
    cfg.SOLVER.MAX_ITER = 2
    trainer = Trainer(cfg)
    trainer.checkpointer.save("model_0000000", iteration=0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"cannot save .*model_0000001.*--resume from .*0000000"
        ):
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "evaluation.json").exists()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"


def test_all_checkpoints_damaged(never_stopped, tmp_path, tiny_cfg, build):
    for path in never_stopped.glob("model_*.pth"):
        (tmp_path / path.name).write_bytes(b"")
    shutil.copy(never_stopped / "last_checkpoint", tmp_path)
    with pytest.raises(UserError, match="all checkpoints in .* are damaged; without --resume"):
        MaskScoringCheckpointer(build(tiny_cfg), str(tmp_path)).resume_or_load("", resume=True)


def test_full_disk_keeps_the_last_checkpoint(never_stopped, tmp_path, tiny_cfg, build):
    """Simulates a full disk by limiting the size of files: writes fail in the same way."""
    checkpointer = MaskScoringCheckpointer(build(tiny_cfg), str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    before = (tmp_path / "model_0000001.pth").read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        for name in ("model_0000003", "model_0000001"):
            with pytest.raises(UserError, match=rf"cannot save .*{name}.*--resume from .*0000001"):
                checkpointer.save(name, iteration=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".pth"] == [
        "model_0000001.pth"
    ]
    assert not list(tmp_path.glob(".*.part"))
    assert (tmp_path / "model_0000001.pth").read_bytes() == before
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 1


def test_keep_last_and_best(processes, shapes_root, never_stopped, tmp_path):
    changes = {"SOLVER.CHECKPOINT_KEEP": 2, "SOLVER.KEEP_BEST": "segm_box_score/AP"}
    cfg = run_cfg(shapes_root, tmp_path, **changes)
    assert processes(str(shapes_root), cfg, kill_in_save=4) == -signal.SIGKILL
    assert processes(str(shapes_root), cfg) == 0
    assert {path.name for path in tmp_path.glob("model_*")} == {
        *("model_0000005.pth", "model_0000007.pth", "model_final.pth"),
        "model_best.pth",
    }
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)["best"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    values = [line["segm_box_score/AP"] for line in lines if "segm_box_score/AP" in line]
    assert best["value"] >= max(values)
    assert best["metric"] == "segm_box_score/AP"
    assert best["steps"] in (4, 8, 9)  # the iterations with an evaluation
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    check_same(tmp_path, never_stopped)
