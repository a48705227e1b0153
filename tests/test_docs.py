"""The documentation agrees with the recorded results and with the code."""

import inspect
import json
import re

import pytest
from cogapp import Cog
from conftest import ROOT
from detectron2.config import get_cfg

from msrcnn.ablation import tables
from msrcnn.benchmark import conventions
from msrcnn.checkpoint.convert.maskscoring_rcnn import MaskScoringRCNN
from msrcnn.checkpoint.convert.mmdet import MMDetection
from msrcnn.checkpoint.convert.torchvision_models import TorchvisionMaskRCNN
from msrcnn.config import CONFIG_ROOT, add_msrcnn_config, get_msrcnn_cfg
from msrcnn.config_by_key import flatten
from msrcnn.engine import config_values

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_tables_are_those_of_the_records(path):
    """``make format`` fills them in, by the modules in docs."""
    modules = ", ".join(sorted(module.stem for module in (ROOT / "docs").glob("*tables.py")))
    options = ["-P", "-I", str(ROOT / "docs"), "-p", f"import {modules}"]
    assert Cog().main(["cog", "--check", *options, str(path)]) == 0


def test_unfilled_tables_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- [[[cog print(1) ]]] -->\n2\n<!-- [[[end]]] -->\n")
    assert Cog().main(["cog", "--check", "-P", str(page)]) != 0


def test_every_config_key_has_an_entry():
    stock, ours = flatten(get_cfg()), flatten(get_msrcnn_cfg())
    changed = {key for key, default in ours.items() if key not in stock or default != stock[key]}
    reference = (ROOT / "docs" / "config.md").read_text()
    assert set(re.findall(r"^### `(.+)`$", reference, re.MULTILINE)) == changed
    assert all(f"Default: `{ours[key]!r}`".replace("'", '"') in reference for key in changed)
    for target in re.findall(r"\]\(#(.+?)\)", reference):
        assert target in {key.replace(".", "").lower() for key in changed}


@pytest.mark.parametrize("change", ["limit", "choice", "comment"])
def test_stale_config_reference_is_found(change, monkeypatch):
    if change == "limit":
        monkeypatch.setitem(config_values.RANGES, "SOLVER.FIT_VIEWS", (2, 9))
    elif change == "choice":
        monkeypatch.setitem(config_values.CHOICES, "SOLVER.OPTIMIZER", lambda: ("sgd", "lion"))
    else:
        source = inspect.getsource(add_msrcnn_config)
        monkeypatch.setattr("inspect.getsource", lambda _: source.replace("Weight decay", "Decay"))
    command = ["cog", "--check", "-P", "-I", str(ROOT / "docs"), str(ROOT / "docs" / "config.md")]
    assert Cog().main(command) != 0


def test_costs_match_the_record():
    heads = json.loads((ROOT / "docs" / "results" / "cost.json").read_text())["heads"]
    method = (ROOT / "docs" / "method.md").read_text()
    maskiou, mask = (heads[name]["multiply_adds"] / 1e9 for name in ("maskiou_head", "mask_head"))
    assert f"{maskiou:.3f} G multiply-adds a proposal, mask head {mask:.3f} G" in method


def test_differences_of_converted_models_match_the_record():
    document = (ROOT / "docs" / "checkpoints.md").read_text()
    result = json.loads((ROOT / "docs" / "results" / "conventions.json").read_text())
    for line in conventions.table(result).splitlines():
        assert line in document


def test_table_of_parameter_names_matches_the_converters():
    """Compares the first parameter of each row, for every library that has it."""
    document = (ROOT / "docs" / "checkpoints.md").read_text()
    rows = document.split("### Names")[1].split("###")[0].splitlines()
    rows = [
        [cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows if "_" in row
    ]
    libraries = (MaskScoringRCNN, MMDetection, TorchvisionMaskRCNN)
    assert len(rows) > 10
    for ours, *theirs in rows[2:]:  # without the heading and the ResNet
        ours = _first(ours.replace("...", "roi_heads.mask_head."))
        for library, name in zip(libraries, theirs, strict=True):
            if name:
                found = library({}).modules[ours]
                assert found.startswith(_first(name)), (library, ours)
            else:
                assert ours not in library({}).modules


def _first(name):
    """Returns the first of the names that a table cell abbreviates."""
    name = re.sub(r"{([^,}]+)[^}]*}", r"\1", name)
    return re.sub(r"(\d)-\d", r"\1", name)


def test_code_named_in_the_method_exists():
    """Files must exist at their paths, and other names anywhere in the package."""
    method = (ROOT / "docs" / "method.md").read_text()
    source = "\n".join(path.read_text() for path in (ROOT / "msrcnn").rglob("*.py"))
    paths = re.findall(r"`(\w+/\w+\.py)`", method)
    names = re.findall(r"`([A-Z]\w+(?:\.\w+)*)`", method)
    assert min(len(paths), len(names)) > 20
    for path in paths:
        assert (ROOT / "msrcnn" / path).is_file(), path
    for name in names:
        assert name.split(".")[-1] in source, name


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/.-]+\.yaml", README))))
def test_configs_named_in_the_readme_exist(path):
    assert (CONFIG_ROOT.parent / path).is_file()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_link_targets_of_the_readme_exist(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_pages_have_no_placeholders_or_broken_links(path):
    text = path.read_text()
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    for config in re.findall(r"configs/[\w/.-]+\.yaml", text):
        assert (CONFIG_ROOT.parent / config).is_file(), config


ABLATIONS = sorted((ROOT / "docs" / "results" / "ablations").glob("*/results.json"))


CLAIMS = sorted((ROOT / "docs" / "results" / "claim").glob("*/results.json"))


@pytest.mark.parametrize("path", ABLATIONS + CLAIMS, ids=lambda path: path.parent.name)
def test_ablation_tables_match_the_records(path):
    recorded = json.loads(path.read_text())
    assert path.with_name("table.md").read_text() == tables.markdown(recorded)
    assert path.with_name("results.csv").read_text() == tables.as_csv(recorded)


def test_figures_in_the_text_about_ablations_match_the_records():
    document = " ".join((ROOT / "docs" / "ablations.md").read_text().split())
    path = ROOT / "docs" / "results" / "ablations" / "training_target_shapes" / "results.json"
    variants = json.loads(path.read_text())["variants"]
    pearson = [variants[name]["mean"]["Pearson"] for name in ("target_class", "all_classes")]
    assert "on shapes from {:.2f} to {:.2f}".format(*pearson) in document


def test_conclusions_from_an_ablation(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from ablation_tables import conclusion

    def results(**others):
        variants = {"a": {"label": "(a)", "difference": None}}
        for name, (mean, *interval) in others.items():
            variants[name] = {"label": name, "difference": {"mean": mean, "ci95": interval or None}}
        return {"baseline": "a", "variants": variants}

    nothing = results(b=(0.1, -0.2, 0.4), c=(0.0, -0.5, 0.5))
    assert conclusion(nothing) == (
        "No difference is statistically significant; the widest of the intervals is ±0.50."
    )
    some = results(b=(0.6, 0.2, 1.0), c=(-0.3, -0.5, -0.1), d=(0.1, -0.1, 0.3))
    assert conclusion(some) == (
        'Better than "(a)": "b" by 0.60. Worse than "(a)": "c" by 0.30. '
        "No other difference is statistically significant; the widest of the intervals is ±0.20."
    )
    assert conclusion(results(b=(0.6, 0.2, 1.0))) == 'Better than "(a)": "b" by 0.60.'
    untested = "Differences without an interval are not tested."
    assert conclusion(results(b=(0.6,))) == untested  # one seed
    assert conclusion(results(b=(0.6,), c=(0.0, -0.5, 0.5))) == f"{conclusion(nothing)} {untested}"


def test_tables_of_records_with_one_seed_or_without_a_variant(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "docs")
    import ablation_tables

    def results(*names):
        variants = {
            name: {
                "label": name,
                "mean": {"AP": 30.0},
                "std": {"AP": None},
                "difference": {"mean": 1.0, "ci95": None, "over": None} if number else None,
                "published": {},
                "runs": [{"seed": 1, "values": {"AP": 30.0 + number}}],
            }
            for number, name in enumerate(names)
        }
        return {
            "title": "Sample",
            "published_source": "",
            "baseline": names[0],
            "variants": variants,
        }

    default = ablation_tables.DEFAULT
    found = {"shapes": results(default, "views"), "nuclei": results(default)}
    monkeypatch.setattr(ablation_tables, "recorded", lambda sweep: found)
    monkeypatch.setattr(ablation_tables, "SWEEPS", ["score"])
    ablation_tables.sweeps()
    assert "| views | +1.00 | - |" in capsys.readouterr().out
    ablation_tables.over_default_fit()
    out = capsys.readouterr().out
    assert "| four views of each image | +1.00 | - |" in out
    assert "Statistically significant: none of these 1 differences." in out


def test_every_sweep_is_recorded():
    """Sweeps of the head are recorded on two datasets, and all with at least three seeds."""
    sweeps = {path.stem for path in (CONFIG_ROOT / "ablations").glob("*.yaml")}
    sweeps -= {"claim", "samples"}  # elsewhere, or not recorded yet
    sweeps -= {"joint_training", "score"}  # on real data only
    expected = {f"{sweep}_shapes" for sweep in sweeps}
    expected |= {"joint_training_animals", "loss_animals", "score_animals", "score_ccp"}
    expected |= {f"{sweep}_nuclei" for sweep in sweeps - {"backbone", "framework"}}
    assert {path.parent.name for path in ABLATIONS} == expected
    for path in ABLATIONS:
        recorded = json.loads(path.read_text())
        assert recorded["missing"] == [] or path.parent.name == "score_ccp"  # some variants only
        assert len(recorded["protocol"]["seeds"]) >= 3


def test_claims_are_complete():
    for path in CLAIMS:
        recorded = json.loads(path.read_text())
        assert recorded["missing"] == recorded["mixed_versions"] == []
        assert not recorded["versions"]["dirty"]
        assert recorded["protocol"]["seeds"] == [1, 2, 3]


def test_tests_named_in_reliability_exist():
    """`tests/a.py::test_b`, and `::test_c` of the same file after it."""
    named = 0
    for row in (ROOT / "docs" / "reliability.md").read_text().splitlines():
        path = None
        for file, test in re.findall(r"`(tests/[\w/]+\.py)?::(test_\w+)`", row):
            path = ROOT / file if file else path
            assert f"def {test}(" in path.read_text(), test
            named += 1
    assert named > 40
