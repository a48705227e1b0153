import hypothesis.strategies as st
import pytest
from hypothesis import given

from msrcnn.class_names import arranged, class_indices, listed, same_classes, spelled_otherwise

NAMES = st.lists(st.text(max_size=3), min_size=1, max_size=5, unique=True)


@given(NAMES, st.data())
def test_any_order_of_the_same_names(names, data):
    others = data.draw(st.permutations(names))
    assert same_classes(names, others)
    assert arranged(names, others) == others
    indices = class_indices(names, others)
    assert [others[index] for index in indices] == names


@given(NAMES, NAMES)
def test_names_that_the_model_has_keep_their_place(names, others):
    found = arranged(names, others)
    assert same_classes(found, names)
    if len(names) == len(others):
        for name, other in zip(found, others):
            assert name == other or other not in names
    else:
        assert found == names


@pytest.mark.parametrize(
    ("names", "model_names", "indices"),
    [
        (["a", "x"], ["b", "a"], [1, None]),
        (["a", "a", "b"], ["a", "a", "b"], [0, 1, 2]),
        (["a", "a", "b"], ["b", "a", "a"], [None, None, 0]),
        (["a"], ["a", "b", "a"], [None]),
    ],
)
def test_classes_that_cannot_be_matched(names, model_names, indices):
    assert class_indices(names, model_names) == indices


def test_lists_in_messages():
    assert listed(["cat"]) == "1 class (cat)"
    assert listed(list("abcdefgh")) == "8 classes (a, b, c, d, e, f, and 2 more)"
    assert listed(["x\n\x1b[31my", "z" * 100]) == rf"2 classes (x\n\x1b[31my, {'z' * 37}...)"


@pytest.mark.parametrize(
    ("name", "other", "found"),
    [
        ("traffic light", "Traffic_Light", "'traffic light' and 'Traffic_Light' differ"),
        ("cat", "cat\N{NO-BREAK SPACE}", "'cat' and 'cat\\xa0' differ"),
        (
            "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
            "cafe\u0301",
            r"'caf\xe9' and 'cafe\u0301' differ",
        ),
        ("cat", "cats", ""),
        ("cat", "cat", ""),
    ],
)
def test_names_that_differ_in_their_spelling(name, other, found):
    assert spelled_otherwise([name, "dog"], ["dog", other]).startswith(found)
    assert bool(spelled_otherwise([name, "dog"], ["dog", other])) == bool(found)
