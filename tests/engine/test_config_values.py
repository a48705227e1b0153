"""Values of configs that are mistyped, or made to do harm: always one error that names the key."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msrcnn.config import load_config
from msrcnn.config_by_key import flatten, value_of
from msrcnn.engine import Trainer, check_config
from msrcnn.engine.config_values import ABOVE_0, CHOICES, NORMS, RANGES, _numbers
from msrcnn.engine.load_model import load_model
from msrcnn.errors import UserError

SMOKE = "quick/smoke_ms_rcnn_R_18_FPN.yaml"
KEYS = sorted(flatten(load_config(SMOKE)))


def check(*opts):
    cfg = load_config(SMOKE, [str(each) for each in opts])
    check_config(cfg)


@pytest.fixture
def cfg():
    return load_config(SMOKE)


def assign(cfg, key, value):
    *sections, last = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[last] = value


@pytest.mark.parametrize("key", [*RANGES, *ABOVE_0])
def test_value_below_its_range(cfg, key):
    low, high = RANGES.get(key, (1e-9, float("inf")))
    default = value_of(cfg, key)
    kind = type(next(_numbers(default), 1))
    for wrong in [low - 1] * (low > float("-inf")) + [high + 1] * (high < float("inf")):
        wrapped = kind(wrong)
        if isinstance(default, list | tuple):
            nested = default and isinstance(default[0], list)
            wrapped = type(default)([[wrapped]] if nested else [wrapped] * max(len(default), 1))
        assign(cfg, key, wrapped)
        with pytest.raises(UserError, match=f"^{key} is .*; it must be "):
            check_config(cfg)


@pytest.mark.parametrize("key", CHOICES)
def test_unknown_name(cfg, key):
    wrong = "nonsense" if isinstance(value_of(cfg, key), str) else -1
    assign(cfg, key, wrong)
    with pytest.raises(UserError, match=f"^{key} is {wrong!r}; allowed: "):
        check_config(cfg)


@pytest.mark.parametrize("key", NORMS)
def test_unknown_norm(cfg, key):
    assign(cfg, key, "Batch")
    with pytest.raises(UserError, match=f"^{key} is 'Batch'; 'BN', .* are usual"):
        check_config(cfg)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("SOLVER.MAX_ITER", "None", "SOLVER.MAX_ITER is None; its default is 40000"),
        ("SOLVER.BASE_LR", "1e999", "SOLVER.BASE_LR is inf; it must be finite"),
        ("MODEL.PIXEL_MEAN", "[1.0, 1e999, 2.0]", "MODEL.PIXEL_MEAN is .*; it must be finite"),
        ("MODEL.PIXEL_MEAN", "['a', 'b', 'c']", "MODEL.PIXEL_MEAN is .*; its default is"),
        ("MODEL.PIXEL_MEAN", "[1.0]", "PIXEL_MEAN has 1 values; INPUT.FORMAT 'BGR' needs 3"),
        ("MODEL.PIXEL_STD", "[1.0] * 3", "MODEL.PIXEL_STD is .*; it must be a list"),
        ("INPUT.FORMAT", "L", "PIXEL_MEAN has 3 values; INPUT.FORMAT 'L' needs 1"),
        ("INPUT.FORMAT", "YUV-BT.601", "FORMAT is 'YUV-BT.601'; allowed: 'BGR', 'RGB', 'L'"),
        ("INPUT.MIN_SIZE_TRAIN", "()", "INPUT.MIN_SIZE_TRAIN is .*; its default is"),
        ("INPUT.MIN_SIZE_TRAIN", "(0.5,)", r"INPUT.MIN_SIZE_TRAIN is \(0.5,\); its default is"),
        ("INPUT.MIN_SIZE_TRAIN", "96", "MIN_SIZE_TRAIN is 96; it must be a tuple"),
        ("INPUT.MIN_SIZE_TEST", "5000", "INPUT.MIN_SIZE_TEST 5000 is above INPUT.MAX_SIZE_TEST"),
        ("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignRotated", "allowed: 'ROIAlignV2', 'ROIAlign"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[]]", "MODEL.ANCHOR_GENERATOR.SIZES is"),
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE is 'gpu'; allowed: 'cuda'"),
        ("MODEL.DEVICE", "cuda:-1", "MODEL.DEVICE is 'cuda:-1'; allowed: 'cuda'"),
        ("MODEL.DEVICE", "fpga", "MODEL.DEVICE is 'fpga'; allowed: 'cuda'"),
        ("DATASETS.TEST", "shapes_val", "DATASETS.TEST is shapes_val; it must be a tuple"),
        ("DATASETS.TEST", "(1,)", r"DATASETS.TEST is \(1,\); it must be a tuple of names"),
        ("SOLVER.STEPS", "(3, 2)", r"SOLVER.STEPS is \(3, 2\); iterations must increase"),
        ("SOLVER.STEPS", "[[1]]", "SOLVER.STEPS is .*; its default is"),
        ("SOLVER.STEPS", "('a',)", r"SOLVER.STEPS is \('a',\); its default is"),
        ("SOLVER.MAX_ITER", "many", "SOLVER.MAX_ITER is many; it must be a whole number"),
        ("SOLVER.FIT_HELD_OUT", "1.0", "SOLVER.FIT_HELD_OUT is 1.0; it must be between 0 and 1"),
        ("MODEL.RESNETS.DEPTH", "42", "MODEL.RESNETS.DEPTH is 42; allowed: 18, 34, 50"),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", "256", "DEPTH 18 needs .*RES2_OUT_CHANNELS 64"),
        ("SEED", str(2**31), "SEED is 2147483648; it must be below"),
        ("OUTPUT_DIR", "", "OUTPUT_DIR is ''; name a folder"),
        ("MODEL", "{}", r"command line: MODEL is a section; give one of its keys, .* MODEL\.A"),
        ("SOLVER.AMP", "True", "command line: SOLVER.AMP is a section"),
        ("SOLVER.MAX_ITERS", "5", "no key 'SOLVER.MAX_ITERS'; nearest: SOLVER.MAX_ITER,"),
        ("SOLVER.MAX_ITER.X", "5", "command line: "),
        ("SEED", "(" * 5000 + ")" * 5000, "command line: "),
        ("SEED", "9" * 5000, "command line: "),
        ("SEED", "\0", "command line: "),
        ("", "1", "command line: "),
    ],
)
def test_mistakes_on_the_command_line(key, value, message):
    with pytest.raises(UserError, match=message):
        check(key, value)


def test_steps_may_be_empty_or_beyond_the_training():
    check("SOLVER.STEPS", "()")
    check("SOLVER.STEPS", "(2, 1000)")  # Detectron2 warns and ignores the second


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=4),
    st.tuples(st.integers(-3, 3)),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
).map(repr)


@settings(max_examples=40)
@given(st.sampled_from(KEYS), st.one_of(VALUES, st.text(max_size=12)))
def test_any_value_is_valid_or_one_error(key, value):
    with contextlib.suppress(UserError):
        check(key, value)


@pytest.mark.parametrize("build", [Trainer.build_model, load_model])
def test_parts_that_do_not_fit_each_other(build):
    cfg = load_config(SMOKE, ["MODEL.DEVICE", "cpu", "MODEL.RPN.IN_FEATURES", "['p2', 'q3']"])
    with pytest.raises(UserError, match="model cannot be built from this config: KeyError 'q3'"):
        build(cfg)
