from pathlib import Path

import pytest
from sample_sweeps import write_sweep

from msrcnn.ablation import load_sweep
from msrcnn.config import CONFIG_ROOT
from msrcnn.errors import UserError

SWEEPS = sorted(path.stem for path in (CONFIG_ROOT / "ablations").glob("*.yaml"))


def test_all_sweeps_exist():
    assert set(SWEEPS) >= {
        *("head_input", "training_target", "sample_threshold"),
        *("loss", "head_cost", "backbone", "framework"),
    }


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_load_and_have_a_quick_protocol_with_three_seeds(name):
    sweep = load_sweep(name)
    assert sweep.path.stem == name
    assert sweep.choose_protocol(None, quick=False) == "full"
    quick = sweep.choose_protocol(None, quick=True)
    assert quick == "shapes"
    assert len(sweep.protocols[quick].seeds) >= 3


def test_a_sweep_file(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path))
    assert list(sweep.variants) == ["concat", "multiply"]
    assert [variant.label for variant in sweep.variants.values()] == ["(a)", "multiply"]
    assert sweep.variants["concat"].published == {"AP": 29.3}
    assert sweep.protocols["full"].seeds == [1, 2, 3]


@pytest.mark.parametrize("key", ["maskiou/pearson_all", "segm_mask_score/APr", "delta/AP"])
def test_what_an_evaluation_has_can_be_reported(key, tmp_path):
    """Over all detections, and of LVIS by the frequency of classes."""
    report = {"AP": "segm_mask_score/AP", "another": key}
    assert load_sweep(write_sweep(tmp_path, report=report)).report == report


def test_a_variant_without_keys(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path, variants={"concat": None}))
    assert sweep.variants["concat"].overrides == {}


def test_a_sweep_of_whole_models_has_no_detector_to_name(tmp_path):
    names = {"variants": {"mask_rcnn": {}}, "baseline": "mask_rcnn"}
    assert list(load_sweep(write_sweep(tmp_path, head_only=None, **names)).variants) == [
        "mask_rcnn"
    ]


def test_unknown_sweep_names_those_that_exist():
    with pytest.raises(UserError, match="no such file.*head_input"):
        load_sweep("heads")


def one_variant(**entry):
    return {"variants": {"a": entry}, "baseline": "a"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "'sedes' is not a known key; known keys: .*'seeds'"),
        ({"sedes": [1], "seeds": None}, "'sedes' is not a known key"),
        ({"title": None}, "'title' is missing"),
        ({"title": 2019}, "'title': Input should be a valid string; found 2019"),
        ({"seeds": ["1"]}, "'seeds', item 1: Input should be a valid integer; found '1'"),
        ({"seeds": [True]}, "'seeds', item 1: Input should be a valid integer; found True"),
        ({"seeds": []}, "'seeds': List should have at least 1 item .*; found \\[\\]"),
        ({"seeds": [1, -1]}, "'seeds', item 2: .* greater than or equal to 0; found -1"),
        ({"seeds": [2**31]}, "'seeds', item 1: .* less than 2147483648; found 2147483648"),
        ({"seeds": [1, 1]}, "'seeds': a seed occurs twice"),
        ({"variants": {}}, "'variants': Dictionary should have at least 1 item"),
        ({"variants": {"a b": {}}, "baseline": "a b"}, "variant 'a b': String should match"),
        (
            one_variant(sett={}),
            "variant 'a', 'sett' is not a known key; known keys: 'label'",
        ),
        (one_variant(set=["INPUT"]), "variant 'a', 'set': Input should be a valid dictionary"),
        (one_variant(set={"MODEL": {"X": 1}}), "variant 'a', 'set': write .* as MODEL.KEY"),
        ({"head_only": {"MODEL": {"X": 1}}}, "'head_only': write .* as MODEL.KEY"),
        (one_variant(base={"full": None}), "'base', 'full': .* valid string; found None"),
        (one_variant(published={"AR": 1}), "variant 'a', 'published' has 'AR', .* none of 'AP'"),
        (one_variant(published={"AP": "x"}), "'published', 'AP': .* valid number; found 'x'"),
        (one_variant(base={"quick": "x"}), "variant 'a', 'base' has 'quick', .* none of 'full'"),
        ({"baseline": "none"}, "'baseline' has 'none', which is none of 'concat', 'multiply'"),
        ({"report": {}}, "'report': Dictionary should have at least 1 item"),
        (
            {"report": {"AP": "segm_mask_scores/AP"}},
            "there is no such number; nearest: segm",
        ),
        ({"quick": {"full": {"base": "x", "seeds": [1]}}}, "cannot be called 'full'"),
        (
            {"variants": {"mask_rcnn": {}}, "baseline": "mask_rcnn"},
            "a variant cannot be called 'mask_rcnn', .* the detector of 'head_only': rename",
        ),
        ({"quick": {"small": {"base": "x"}}}, "protocol 'small', 'seeds' is missing"),
    ],
)
def test_mistakes_are_named_in_one_line(changes, message, tmp_path):
    with pytest.raises(UserError, match=f"sample.yaml: .*{message}") as caught:
        load_sweep(write_sweep(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("title: x\nvariants:\n  a: {}\n  a: {}\n", "line 4: 'a' occurs twice"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "line 5: 'y' occurs twice"),
        ("variants:\n  5: {}\n", "line 2: the key 5 is not text: put it in quotes"),
    ],
)
def test_keys_that_yaml_would_drop_or_convert(content, message, tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=f"sample.yaml, {message}"):
        load_sweep(str(path))


def test_settings_can_be_merged(tmp_path):
    """A key beside ``<<`` overrides that of the anchor, also if the anchor is in a merge itself."""
    path = Path(write_sweep(tmp_path, variants=None, head_only=None))
    path.write_text(
        path.read_text() + "variants:\n"
        "  concat: {set: &a {SEED: 1, VERSION: 2}}\n"
        "  b: {set: &b {<<: *a, SEED: 3}}\n"
        "head_only: {<<: *b, SEED: 4}\n"
    )
    sweep = load_sweep(str(path))
    assert sweep.variants["b"].overrides == {"SEED": 3, "VERSION": 2}
    assert sweep.head_only == {"SEED": 4, "VERSION": 2}


def test_a_value_that_is_nested_too_deep(tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text("title: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(UserError, match="sample.yaml: a value is nested too deep"):
        load_sweep(str(path))


@pytest.mark.parametrize("content", ["[1, 2", "- a\n", "", "!!python/object:os.system {}"])
def test_files_that_are_not_sweeps(content, tmp_path):
    path = tmp_path / "sample.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match="sample.yaml"):
        load_sweep(str(path))


def test_protocols_by_name(tmp_path):
    quick = {name: {"base": "x", "seeds": [1]} for name in ("shapes", "nuclei")}
    sweep = load_sweep(write_sweep(tmp_path, quick=quick))
    assert sweep.choose_protocol("nuclei", quick=True) == "nuclei"
    assert sweep.choose_protocol("nuclei", quick=False) == "nuclei"
    assert sweep.choose_protocol(None, quick=True) == "shapes"
    with pytest.raises(UserError, match="no protocol 'coco'; it has 'full', 'shapes', 'nuclei'"):
        sweep.choose_protocol("coco", quick=False)
    with pytest.raises(UserError, match="no quick protocol 'full'; it has 'shapes', 'nuclei'"):
        sweep.choose_protocol("full", quick=True)
    with pytest.raises(UserError, match="has no quick protocol: add one"):
        load_sweep(write_sweep(tmp_path)).choose_protocol(None, quick=True)
