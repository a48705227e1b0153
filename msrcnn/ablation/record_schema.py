"""The schema of a run's ``result.json``: the type of every value that the results are made of."""

from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    TypeAdapter,
    ValidationError,
    create_model,
    with_config,
)
from typing_extensions import NotRequired, TypedDict

from ..escaping import shown
from ..evaluation import AP_LABELS, IOU_THRESHOLDS
from ..evaluation.agreement import AGREEMENT, SCOPES, SCORES

STRICT = ConfigDict(strict=True, extra="ignore")
Number = FiniteFloat | None  # None where it does not apply


@with_config(STRICT)
class _Interval(TypedDict):
    n: NonNegativeInt
    predicted: FiniteFloat
    true: FiniteFloat


@with_config(STRICT)
class _Delta(TypedDict):
    AP: Number


@with_config(STRICT)
class _Seconds(TypedDict):
    inference: NotRequired[FiniteFloat]


@with_config(STRICT)
class _Training(TypedDict):
    steps: NonNegativeInt
    seconds_per_step: Number


# An evaluation may lack what is newer than the run.
_agreement: dict[str, Any] = {}
for _scope in SCOPES:
    _agreement |= {f"{name}{_scope.suffix}": (Number, None) for name in AGREEMENT}
    _agreement[f"calibration{_scope.suffix}"] = (list[_Interval], [])
_Agreement = create_model("_Agreement", __config__=STRICT, **_agreement)
_number_by_threshold = Annotated[
    list[Number], Field(min_length=len(IOU_THRESHOLDS), max_length=len(IOU_THRESHOLDS))
]
_evaluation: dict[str, Any] = {
    **dict.fromkeys(AP_LABELS, (dict[str, Number] | None, None)),
    **dict.fromkeys(SCORES, (_Agreement | None, None)),
    "delta": (_Delta | None, None),
    "by_iou": (dict[str, _number_by_threshold], {}),
    "images": (NonNegativeInt, 0),
    "seconds": (_Seconds, {}),
}
_Evaluation = create_model("_Evaluation", __config__=STRICT, **_evaluation)


@with_config(STRICT)
class _Record(TypedDict):
    evaluation: _Evaluation  # type: ignore[valid-type]
    hardware: str
    versions: dict[str, str | bool | None]
    training: NotRequired[_Training]


_SCHEMA = TypeAdapter(_Record)


def record_problem(record: dict) -> str | None:
    """Returns what is wrong with a ``result.json``, or ``None``.

    Args:
        record: the content of the file.
    """
    try:
        _SCHEMA.validate_python(record)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        where = ".".join(map(str, details["loc"]))
        if details["type"] == "missing":
            return f"it has no '{where}'"
        return f"'{where}' cannot be {shown(details['input'])}"
    return None
