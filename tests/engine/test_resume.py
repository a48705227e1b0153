"""A run that was killed and resumed is the run that never was."""

import json
import multiprocessing
import random
import resource
import shutil
import signal
import time

import pytest
import torch
from training_process import run_cfg, train

from msrcnn.checkpoint import MaskScoringCheckpointer
from msrcnn.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_process"])

    def start(*arguments, **kwargs):
        process = context.Process(target=train, args=arguments, kwargs=kwargs)
        process.start()
        process.join()
        return process.exitcode

    return start


def losses(folder):
    """By iteration; each time, where one was run more than once."""
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
    start = time.monotonic()
    assert processes(str(shapes_root), run_cfg(shapes_root, folder)) == 0
    (folder / "seconds").write_text(str(time.monotonic() - start))
    return folder


@pytest.fixture(scope="module")
def killed(processes, shapes_root, tmp_path_factory):
    """A run killed in its fourth save, of the checkpoint after 8 steps."""
    folder = tmp_path_factory.mktemp("killed")
    cfg = run_cfg(shapes_root, folder)
    assert processes(str(shapes_root), cfg, kill_in_save=4) == -signal.SIGKILL
    return folder


def check_same(folder, never_stopped):
    """Model, optimizer, schedule, seed and the losses on the way."""
    assert_equal(final(folder), final(never_stopped))
    expected, found = losses(never_stopped), losses(folder)
    assert found.keys() == expected.keys() == set(range(9))
    for iteration, each in found.items():
        assert all(again == expected[iteration][0] for again in each), iteration


def test_killed_at_random_moments(processes, shapes_root, never_stopped, tmp_path):
    cfg = run_cfg(shapes_root, tmp_path)
    moments, seconds = random.Random(3), float((never_stopped / "seconds").read_text())
    exits = [
        processes(str(shapes_root), cfg, kill_after=seconds * moments.uniform(0.02, 0.5))
        for _ in range(5)
    ]
    assert exits.count(-signal.SIGKILL) >= 2
    assert processes(str(shapes_root), cfg) == 0
    check_same(tmp_path, never_stopped)


def test_killed_in_the_middle_of_a_save(killed, processes, shapes_root, never_stopped, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "run")
    saved = sorted(path.name for path in folder.glob("model_*.pth"))
    # What was being written is not there.
    assert saved == ["model_0000001.pth", "model_0000003.pth", "model_0000005.pth"]
    assert len(list(folder.glob(".*.part"))) == 1
    cfg = run_cfg(shapes_root, folder, **{"DATALOADER.NUM_WORKERS": 2})  # and with other workers
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
        assert "model_0000005.pth' is damaged: the one before it is taken" in caplog.text


def test_training_goes_on_from_the_one_before(
    killed, processes, shapes_root, never_stopped, tmp_path
):
    folder = shutil.copytree(killed, tmp_path / "run")
    damage(folder / "model_0000005.pth", "flipped")
    assert processes(str(shapes_root), run_cfg(shapes_root, folder)) == 0
    check_same(folder, never_stopped)


def test_all_checkpoints_damaged(never_stopped, tmp_path, tiny_cfg, build):
    for path in never_stopped.glob("model_*.pth"):
        (tmp_path / path.name).write_bytes(b"")
    shutil.copy(never_stopped / "last_checkpoint", tmp_path)
    with pytest.raises(UserError, match="all checkpoints in .* are damaged; without --resume"):
        MaskScoringCheckpointer(build(tiny_cfg), str(tmp_path)).resume_or_load("", resume=True)


def test_full_disk_leaves_the_last_checkpoint(never_stopped, tmp_path, tiny_cfg, build):
    """A limit of a file's size stands in for a full disk: writing fails in the same way."""
    checkpointer = MaskScoringCheckpointer(build(tiny_cfg), str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    before = (tmp_path / "model_0000001.pth").read_bytes()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        for name in ("model_0000003", "model_0000001"):
            with pytest.raises(UserError, match=rf"cannot save .*{name}.*--resume from .*0000001"):
                checkpointer.save(name, iteration=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
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
        *("model_best.pth", "model_best.json"),
    }
    best = json.loads((tmp_path / "model_best.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    values = [line["segm_box_score/AP"] for line in lines if "segm_box_score/AP" in line]
    assert best["value"] == max(values)
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    check_same(tmp_path, never_stopped)
