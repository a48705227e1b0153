"""Flags of `msrcnn train` that stand for config keys."""

import pytest

from msrcnn.cli import command_parser
from msrcnn.commands.training_flags import training_overrides
from msrcnn.config import load_config
from msrcnn.engine.schedule import values_as_given
from msrcnn.errors import UserError

CONFIG = "finetune/own_data_MNV2_FPN.yaml"


def overrides(*arguments):
    parser = command_parser("train", "msrcnn train")
    return training_overrides(parser.parse_args(["--config-file", CONFIG, *arguments]))


def test_flags_set_keys():
    opts = overrides(
        *("--weights", "w.pth", "--epochs", "3", "--batch", "2", "--size", "128"),
        *("TEST.EVAL_PERIOD", "5"),
    )
    cfg = load_config(CONFIG, opts)
    assert cfg.MODEL.WEIGHTS == "w.pth"
    assert (cfg.SOLVER.EPOCHS, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.AUTO_SCALE) == (3, 2, True)
    assert cfg.SOLVER.REFERENCE_BATCH == 4  # of the file
    assert (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST) == ((112, 128, 144), 128)
    assert cfg.INPUT.MAX_SIZE_TRAIN == cfg.INPUT.MAX_SIZE_TEST == 256
    assert cfg.TEST.EVAL_PERIOD == 5
    assert values_as_given(["TEST.EVAL_PERIOD", "5"]) == ["TEST.EVAL_PERIOD"]


def test_pictures_without_objects_are_trained_on():
    for name in (CONFIG, "finetune/own_data_R_50_FPN.yaml"):
        assert not load_config(name, []).DATALOADER.FILTER_EMPTY_ANNOTATIONS


def test_a_flag_after_keys_is_named():
    with pytest.raises(UserError, match="^command line: --resume must stand before"):
        load_config(CONFIG, ["SEED", "3", "--resume"])


def test_without_flags_nothing_changes():
    assert overrides("SEED", "3") == ["SEED", "3"]


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (("--weights", "a"), "MODEL.WEIGHTS"),
        (("--epochs", "3"), "SOLVER.EPOCHS"),
        (("--epochs", "3"), "SOLVER.MAX_ITER"),
        (("--batch", "2"), "SOLVER.IMS_PER_BATCH"),
        (("--batch", "2"), "SOLVER.AUTO_SCALE"),
        (("--size", "64"), "INPUT.MIN_SIZE_TRAIN"),
        (("--size", "64"), "INPUT.MAX_SIZE_TEST"),
        (("--train-data", "a.json:a"), "DATASETS.TRAIN"),
        (("--val-data", "a.json:a"), "DATASETS.TEST"),
    ],
)
def test_a_flag_and_its_key_contradict_each_other(flags, key):
    message = f"^{' '.join(flags)} sets {key}, which is also given: choose one$"
    with pytest.raises(UserError, match=message):
        overrides(*flags, "SEED", "1", key, "1")


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("fit-scores", "--weights w sets MODEL.WEIGHTS"),
        ("fit-scores", "--output-dir d sets OUTPUT_DIR"),
        ("fit-scores", "--train-data a.json:a sets DATASETS.TRAIN"),
        ("eval", "--weights w sets MODEL.WEIGHTS"),
        ("eval", "--output-dir d sets OUTPUT_DIR"),
        ("eval", "--val-data a.json:a sets DATASETS.TEST"),
    ],
)
def test_so_it_does_in_other_commands(run_command, command, given):
    flag, value, _, key = given.split()
    flags = {"--weights": "w", "--output-dir": "d", flag: value}
    arguments = [each for pair in flags.items() for each in pair]
    code, _, error = run_command(command, "--config-file", CONFIG, *arguments, key, "x")
    assert (code, error) == (1, f"error: {given}, which is also given: choose one\n")


def test_iterations_replace_the_epochs_of_a_file():
    cfg = load_config(CONFIG, overrides("SOLVER.MAX_ITER", "20"))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.EPOCHS) == (20, 0)
    with pytest.raises(UserError, match="SOLVER.EPOCHS sets SOLVER.MAX_ITER"):
        overrides("SOLVER.MAX_ITER", "20", "SOLVER.EPOCHS", "2")


def test_auto_scale_as_a_key_scales_what_is_given_with_it():
    assert values_as_given(["SOLVER.AUTO_SCALE", "True", "SOLVER.BASE_LR", "0.1"]) == ()


def test_size_needs_a_config_that_resizes(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("INPUT:\n  MIN_SIZE_TEST: 0\n")
    with pytest.raises(UserError, match="--size 64 needs a config that resizes images"):
        overrides("--config-file", str(path), "--size", "64")
