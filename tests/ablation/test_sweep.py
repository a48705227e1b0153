import pytest
from made_sweeps import write_sweep

from msrcnn.ablation import load_sweep
from msrcnn.config import CONFIG_ROOT
from msrcnn.errors import UserError

SWEEPS = sorted(path.stem for path in (CONFIG_ROOT / "ablations").glob("*.yaml"))


def test_all_sweeps_are_there():
    assert set(SWEEPS) >= {
        *("head_input", "training_target", "sample_threshold"),
        *("loss", "head_cost", "backbone", "framework"),
    }


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_load_and_have_a_quick_protocol_of_three_seeds(name):
    sweep = load_sweep(name)
    assert sweep.name == name
    assert sweep.protocol(None, quick=False).name == "full"
    quick = sweep.protocol(None, quick=True)
    assert quick.name == "shapes"
    assert len(quick.seeds) >= 3


def test_a_sweep_file(tmp_path):
    sweep = load_sweep(write_sweep(tmp_path))
    assert [variant.name for variant in sweep.variants] == ["concat", "multiply"]
    assert [variant.label for variant in sweep.variants] == ["(a)", "multiply"]
    assert sweep.variants[0].published == {"AP": 29.3}
    assert sweep.protocols["full"].seeds == (1, 2, 3)


def test_unknown_sweep_names_those_there_are():
    with pytest.raises(UserError, match="no such file.*head_input"):
        load_sweep("heads")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedes": [1]}, "the file has 'sedes'; known are .*'seeds'"),
        ({"title": None}, "the file lacks 'title'"),
        ({"seeds": ["1"]}, "not a list of numbers from 0"),
        ({"seeds": []}, "protocol 'full': 'seeds' is \\[\\], not a list of numbers"),
        ({"seeds": [1, -1]}, "not a list of numbers from 0"),
        ({"seeds": [1, 1]}, "'seeds' has one twice"),
        ({"variants": {}}, "'variants' is empty"),
        ({"variants": {"a b": {}}, "baseline": "a b"}, "'a b' is no name"),
        ({"variants": {"a": {"sett": {}}}, "baseline": "a"}, "variant 'a' has 'sett'"),
        ({"variants": {"a": {"set": ["INPUT"]}}, "baseline": "a"}, "variant 'a': 'set' is"),
        ({"variants": {"a": {"set": {"MODEL": {"X": 1}}}}, "baseline": "a"}, "as MODEL.KEY"),
        ({"variants": {"a": {"set": {5: 1}}}, "baseline": "a"}, "5 is no name: put it in quotes"),
        (
            {"variants": {"a": {"base": {"full": None}}}, "baseline": "a"},
            "'base' of 'full' is None",
        ),
        ({"variants": {"a": {"label": "x|y"}}, "baseline": "a"}, "a 'label' without \\|"),
        ({"variants": {"a": {"published": {"AR": 1}}}, "baseline": "a"}, "'AR', which is no col"),
        ({"variants": {"a": {"published": {"AP": "x"}}}, "baseline": "a"}, "'x', not a number"),
        ({"variants": {"a": {"base": {"quick": "x"}}}, "baseline": "a"}, "protocol 'quick', which"),
        ({"baseline": "none"}, "'baseline' is 'none', which is none of 'concat', 'multiply'"),
        ({"report": {}}, "'report' is empty"),
        ({"report": {"AP": "segm_mask_scores/AP"}}, "there is no 'segm_mask_scores/AP'; nearest"),
        ({"quick": {"full": {"base": "x", "seeds": [1]}}}, "cannot be called 'full'"),
        ({"quick": {"small": {"base": "x"}}}, "protocol 'small' lacks 'seeds'"),
    ],
)
def test_mistakes_are_named(changes, message, tmp_path):
    with pytest.raises(UserError, match=f"made.yaml: .*{message}"):
        load_sweep(write_sweep(tmp_path, **changes))


def test_a_variant_that_stands_twice_is_not_lost(tmp_path):
    path = tmp_path / "made.yaml"
    path.write_text("title: x\nvariants:\n  a: {}\n  a: {}\n")
    with pytest.raises(UserError, match="'a' stands twice[^0-9]*line 4"):
        load_sweep(str(path))


@pytest.mark.parametrize("content", ["[1, 2", "- a\n", "", "!!python/object:os.system {}"])
def test_what_is_no_sweep_file(content, tmp_path):
    path = tmp_path / "made.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match="made.yaml"):
        load_sweep(str(path))


def test_protocols_by_name(tmp_path):
    quick = {name: {"base": "x", "seeds": [1]} for name in ("shapes", "nuclei")}
    sweep = load_sweep(write_sweep(tmp_path, quick=quick))
    assert sweep.protocol("nuclei", quick=True).name == "nuclei"
    assert sweep.protocol(None, quick=True).name == "shapes"
    with pytest.raises(UserError, match="no protocol 'coco', but 'full', 'shapes', 'nuclei'"):
        sweep.protocol("coco", quick=False)
    with pytest.raises(UserError, match="only one of them"):
        sweep.protocol("full", quick=True)
    with pytest.raises(UserError, match="has no quick protocol"):
        load_sweep(write_sweep(tmp_path)).protocol(None, quick=True)
