"""Config files that are damaged, or made to do harm: always one error that names the file."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msrcnn import yaml_limits
from msrcnn.config import CONFIG_ROOT, load_config
from msrcnn.errors import UserError

QUICK = CONFIG_ROOT / "quick"
WHOLE = (QUICK / "shapes_mask_rcnn_R_18_FPN.yaml").read_text().replace('"../', f'"{CONFIG_ROOT}/')
BOMB = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}]\n" for old, new in zip("abcdefghijk", "bcdefghijkl")
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no keys with values"),
        (b"5", "has no keys with values"),
        (b"- 1", "has no keys with values"),
        (b"\xff\xfe\x00", "can't decode|not acceptable|special characters"),
        (b"SEED: \x1b[2J", "special characters"),
        (b"a: [" * 500, "nested too deep"),
        (b"SEED: " + b"[" * 500, "nested too deep|expected"),
        (BOMB.encode(), "more than 20,000 values, with aliases written out"),
        (b"a: &a [*a]", "more than 20,000 values"),
        (b"SEED: 1\n" + b"# comment\n" * 110_000, "a config has at most 1,048,576"),
        (b"_BASE_: config.yaml", "leads from '.*config.yaml' to itself"),
        (b"_BASE_: ../nowhere/x.yaml", "nowhere/x.yaml' is not a file"),
        (b"_BASE_: .", "' is not a file"),
        (b"_BASE_: {a: 1}", "is not the name of a file"),
        (b"_BASE_: https://example.com/a.yaml", "is not a local file; download it"),
        (b"SEED: 2020-01-01", "SEED"),
        (b"VERSION: 2\nMODEL:\n", "MODEL is None, but it is a section: give values to its keys"),
        (b"MODEL:\n", "MODEL is None, but it is a section: give values to its keys"),
        (b"TEST: 5\n", "TEST is 5, but it is a section: give values to its keys"),
        (b"VERSION: 2\nMODEL: 5", "MODEL is 5, but it is a section"),
        (b"SEED: {A: 1}", "SEED has keys below it, but it is not a section: its default is -1"),
        (b"SEED: 1\n1: 2", "config.yaml', line 2: the key 1 is not text: put it in quotes"),
        (b"MODEL: {yes: 2}", "line 1: the key yes is not text"),
        (b"? [1]\n: 2", "line 1: a key is not text"),
        (b"SEED: 1\n---\nSEED: 2", "line 2: expected a single document .*, but found another"),
        (b"MODEL: {MASK_ON: 1}\nMODEL: {}", "config.yaml', line 2: 'MODEL' occurs twice: remove"),
        (b"MODEL: {MASK_ON: 1, MASK_ON: 1}", "line 1: 'MASK_ON' occurs twice"),
        (b"MODEL: {WEIGHTS: !!binary aGk=}", "WEIGHTS"),
        (b"SEED: !!python/object/apply:os.getpid []", "python/object"),
        (b"SEED: !unknown 1", "!unknown"),
        (b"VERSION: -7", "config"),
        (b"VERSION: x", "config"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_file_that_is_refused(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_config(path)
    assert str(error.value).startswith(f"config {path}: ")
    assert len(str(error.value)) < 500 + len(str(path))
    assert "\n" not in str(error.value)


def test_mistake_in_a_base_names_the_file(tmp_path):
    (tmp_path / "base.yaml").write_text("SEED: 1\nSEED: 2\n")
    (tmp_path / "a.yaml").write_text("_BASE_: base.yaml")
    with pytest.raises(UserError, match=r"a.yaml: '.*base.yaml', line 2: 'SEED' occurs twice"):
        load_config(tmp_path / "a.yaml")


def test_merged_keys_do_not_occur_twice(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("TEST: {<<: {EVAL_PERIOD: 3}, <<: {EVAL_PERIOD: 4}, EVAL_PERIOD: 5}\n")
    assert load_config(path).TEST.EVAL_PERIOD == 5


def test_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="this is a folder, name a file"):
        load_config(tmp_path)


def test_files_that_include_each_other(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml")
    (tmp_path / "b.yaml").write_text("_BASE_: [a.yaml]")
    with pytest.raises(UserError, match=r"leads from '.*a.yaml' to itself"):
        load_config(tmp_path / "a.yaml")


def test_number_of_files_is_limited(tmp_path):
    for level in range(8):
        base = [f"{level + 1}.yaml"] * 3
        (tmp_path / f"{level}.yaml").write_text(f"_BASE_: {base}")
    (tmp_path / "8.yaml").write_text("SEED: 1")
    with pytest.raises(UserError, match="leads to more than 100 files"):
        load_config(tmp_path / "0.yaml")


def test_one_file_may_be_the_base_of_several(tmp_path):
    (tmp_path / "base.yaml").write_text("SEED: 3")
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text("_BASE_: base.yaml")
    (tmp_path / "c.yaml").write_text("_BASE_: [a.yaml, b.yaml]")
    assert load_config(tmp_path / "c.yaml").SEED == 3


def test_aliases_count_as_often_as_they_are_used(tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("DATASETS:\n  TRAIN: &t [x, y]\n  TEST: *t\n")
    monkeypatch.setattr(yaml_limits, "MAX_VALUES", 11)  # 1 + 2 * (key, list, x, y) + 2
    assert load_config(tmp_path / "a.yaml").DATASETS.TEST == ("x", "y")
    monkeypatch.setattr(yaml_limits, "MAX_VALUES", 10)
    with pytest.raises(UserError, match="more than 10 values"):
        load_config(tmp_path / "a.yaml")


def test_file_before_it_is_mutated(tmp_path):
    (tmp_path / "a.yaml").write_text(WHOLE)
    assert load_config(tmp_path / "a.yaml").INPUT.MIN_SIZE_TEST == 144


@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.text(max_size=3)), max_size=3))
def test_mutated_file_loads_or_is_one_error(tmp_path_factory, changes):
    text = WHOLE
    for place, new in changes:
        text = text[:place] + new + text[place + 1 :]
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(text, errors="surrogatepass")
    with contextlib.suppress(UserError):
        load_config(path)
