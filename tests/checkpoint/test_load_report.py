import pytest

from msrcnn.checkpoint.load_report import Mismatch, make_report
from msrcnn.errors import UserError

MASKIOU = "roi_heads.mask_head.maskiou_head."
MODEL = [
    "backbone.fpn_lateral2.weight",
    "backbone.bottom_up.stem.conv1.weight",
    "backbone.bottom_up.res2.0.conv1.weight",
    "backbone.bottom_up.res2.0.conv1.norm.num_batches_tracked",
    "backbone.bottom_up.res2.0.conv2_offset.weight",
    "proposal_generator.rpn_head.objectness_logits.weight",
    "proposal_generator.rpn_head.anchor_deltas.bias",
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.cls_score.bias",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.mask_head.mask_fcn1.weight",
    "roi_heads.mask_head.predictor.weight",
    f"{MASKIOU}maskiou_fcn1.weight",
    f"{MASKIOU}maskiou.weight",
    f"{MASKIOU}maskiou.bias",
]
COUNTED = len(MODEL) - 1  # without num_batches_tracked


def report(missing=(), unexpected=(), mismatches=()):
    mismatches = [Mismatch(*mismatch) for mismatch in mismatches]
    missing = [*missing, *(mismatch.name for mismatch in mismatches)]
    return make_report("w.pkl", MODEL, missing, unexpected, mismatches)


def lines(*arguments, **keywords):
    return str(report(*arguments, **keywords)).splitlines()


def below(prefix):
    return [name for name in MODEL if name.startswith(prefix)]


def test_all_loaded():
    assert lines() == [f"Weights w.pkl: all {COUNTED} tensors loaded"]


def test_newly_initialized_part():
    assert lines(below(MASKIOU)) == [
        f"Weights w.pkl: {COUNTED - 3} of {COUNTED} tensors loaded",
        "  loaded: backbone 3, FPN 1, RPN 2, box head 3, mask head 2",
        "  newly initialized: MaskIoU head (3 tensors)",
    ]


def test_newly_initialized_layers_of_a_part():
    found = lines(["roi_heads.mask_head.mask_fcn1.weight"])
    assert found[1:] == [
        "  loaded: backbone 3, FPN 1, RPN 2, box head 3, mask head 1 of 2, MaskIoU head 3",
        "  newly initialized: mask_head.mask_fcn1",
    ]


def test_ignored_by_layer_or_part():
    found = lines(unexpected=["roi_heads.keypoint_head.a.weight", "roi_heads.keypoint_head.a.bias"])
    assert found[1:] == ["  in the file, not in the model: keypoint_head.a"]
    several = lines(unexpected=[f"x.{index}.weight" for index in range(9)])
    assert several[1:] == ["  in the file, not in the model: x.0, x.1, x.2, x.3, and 5 more"]
    plain = make_report("w.pkl", MODEL[:2], [], below(MASKIOU), [])
    assert str(plain).splitlines()[1:] == [
        "  in the file, not in the model: MaskIoU head (3 tensors)"
    ]


def test_counters_of_batch_norms_are_not_mentioned():
    counters = ["backbone.bottom_up.stem.conv1.norm.num_batches_tracked", *below(MODEL[3])]
    assert lines(missing=counters[1:], unexpected=counters[:1]) == lines()


CLASSES = [
    ("roi_heads.box_predictor.bbox_pred.weight", (320, 8), (12, 8)),
    ("roi_heads.box_predictor.cls_score.weight", (81, 8), (4, 8)),
    ("roi_heads.box_predictor.cls_score.bias", (81,), (4,)),
    ("roi_heads.mask_head.predictor.weight", (80, 8, 1, 1), (3, 8, 1, 1)),
    (f"{MASKIOU}maskiou.weight", (80, 8), (3, 8)),
    (f"{MASKIOU}maskiou.bias", (80,), (3,)),
]


def test_another_number_of_classes():
    assert lines(mismatches=CLASSES) == [
        f"Weights w.pkl: {COUNTED - 6} of {COUNTED} tensors loaded",
        "  loaded: backbone 3, FPN 1, RPN 2, mask head 1 of 2, MaskIoU head 1 of 3",
        "  80 classes in the file, 3 in the model: box_predictor.cls_score, "
        "box_predictor.bbox_pred, mask_head.predictor, mask_head.maskiou_head.maskiou "
        "(newly initialized)",
    ]


def test_another_number_of_classes_with_all_masks_as_input():
    channels = (f"{MASKIOU}maskiou_fcn1.weight", (256, 336, 3, 3), (256, 259, 3, 3))
    found = report(mismatches=[*CLASSES, channels])
    (names,) = found.remade.values()
    assert channels[0] in names


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_classes_of_a_cascade(stage):
    name = f"roi_heads.box_predictor.{stage}.cls_score.weight"
    mismatch = Mismatch(name, (81, 8), (4, 8))
    found = make_report("w.pkl", [*MODEL, name], [name], [], [mismatch])
    assert found.remade == {"80 classes in the file, 3 in the model": [name]}


@pytest.mark.parametrize(
    ("in_file", "in_model", "reason"),
    [
        ((80, 8, 1, 1), (1, 8, 1, 1), "class-specific in the file, class-agnostic in the model"),
        ((1, 8, 1, 1), (80, 8, 1, 1), "class-agnostic in the file, class-specific in the model"),
    ],
)
def test_class_agnostic_masks_only_in_file_or_model(in_file, in_model, reason):
    name = "roi_heads.mask_head.predictor.weight"
    assert report(mismatches=[(name, in_file, in_model)]).remade == {reason: [name]}


def test_another_number_of_anchors():
    found = report(
        mismatches=[
            ("proposal_generator.rpn_head.anchor_deltas.bias", (12,), (20,)),
            ("proposal_generator.rpn_head.objectness_logits.weight", (3, 8, 1, 1), (5, 8, 1, 1)),
        ]
    )
    assert list(found.remade) == ["3 anchors per location in the file, 5 in the model"]


@pytest.mark.parametrize(
    "mismatch",
    [
        ("backbone.bottom_up.res2.0.conv1.weight", (64, 64, 1, 1), (32, 64, 1, 1)),
        ("roi_heads.box_predictor.cls_score.weight", (81, 1024), (81, 512)),
        ("roi_heads.box_predictor.cls_score.weight", (81, 1024), (4, 512)),
        ("roi_heads.box_predictor.bbox_pred.weight", (320, 8), (12, 8)),
        ("roi_heads.mask_head.predictor.weight", (80, 8, 1, 1), (3, 8, 1, 1)),
        (f"{MASKIOU}maskiou_fcn1.weight", (256, 257, 3, 3), (256, 256, 3, 3)),
        ("proposal_generator.rpn_head.objectness_logits.weight", (3, 8, 1, 1), (3, 4, 1, 1)),
    ],
    ids=lambda mismatch: mismatch[0],
)
def test_unexplained_shape(mismatch):
    """Includes layers that differ in the number of classes although the classifier does not."""
    with pytest.raises(UserError) as error:
        report(mismatches=[mismatch])
    name, in_file, in_model = mismatch
    message = str(error.value)
    assert (
        f"'w.pkl' does not fit this model: {name} is {in_file} in the file, {in_model}" in message
    )
    assert "Set the MODEL keys" in message


def test_inconsistent_numbers_of_classes():
    mismatches = [*CLASSES[1:], ("roi_heads.box_predictor.bbox_pred.weight", (400, 8), (12, 8))]
    with pytest.raises(UserError, match=r"bbox_pred.weight is \(400, 8\)"):
        report(mismatches=mismatches)


def test_long_lists_of_shapes_are_shortened():
    names = [f"backbone.{index}.weight" for index in range(20)]
    mismatches = [Mismatch(name, (1,), (2,)) for name in names]
    with pytest.raises(UserError, match=r"backbone.3.weight is .*; and 16 more\. Set"):
        make_report("w.pkl", [*MODEL, *names], names, [], mismatches)


def test_nothing_loaded():
    with pytest.raises(UserError, match="no weight in 'w.pkl' fits the model"):
        report(MODEL)
    with pytest.raises(UserError, match="no weight in 'w.pkl' fits the model"):
        report([n for n in MODEL if "cls_score" not in n], mismatches=CLASSES[1:3])


@pytest.mark.parametrize(
    ("missing", "unexpected", "gap"),
    [
        (below("backbone.bottom_up.res2"), [], "the file lacks layers of the backbone"),
        (below("backbone.bottom_up"), [], "the file lacks layers of the backbone"),
        ([], ["backbone.bottom_up.res4.22.conv1.weight"], "the file has layers of a ResNet"),
        ([], ["res4.22.conv1.weight"], "the file has layers of a ResNet"),
        ([], ["backbone.bottom_up.body.layer3.9.conv1.weight"], "the file has layers of the back"),
        (below("backbone.fpn_"), [], ""),
        (below("backbone.bottom_up.res2.0.conv2_offset"), [], ""),
        ([], ["fc.weight", "stem.fc.bias", "linear.weight", "features.18.0.weight"], ""),
    ],
)
def test_incomplete_backbone_is_reported(missing, unexpected, gap):
    found = report(missing, unexpected)
    assert found.backbone_gap.startswith(gap)
    assert bool(found.backbone_gap) == bool(gap)
    assert ("warning: " in str(found)) == bool(gap)


def test_details_list_all_names():
    found = report(below("backbone"), [f"x.{index}.weight" for index in range(9)], CLASSES)
    for name in [*below("backbone"), *(name for name, *_ in CLASSES), "x.8.weight"]:
        assert name in found.details() or name.endswith("num_batches_tracked")


def test_control_characters_in_names_are_escaped():
    found = report(unexpected=["a\x1b[2J\nb.weight"])
    assert r"a\x1b[2J\nb" in str(found)
    assert "\x1b" not in found.details()
