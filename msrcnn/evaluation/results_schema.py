"""The schema of COCO result files: the type of every value of a record."""

from typing import Annotated

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import NotRequired, TypedDict

from ..escaping import shown

STRICT = ConfigDict(strict=True, extra="ignore")
TAGS = ("compressed", "uncompressed")  # of RLE, in pydantic's path to a value
MAX_PIXELS = 2**31 - 1  # of a mask; pycocotools counts in 32 bits
Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Pixels = Annotated[int, Field(ge=0, le=MAX_PIXELS)]


@with_config(STRICT)
class _RLE(TypedDict):
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    counts: Annotated[
        Annotated[str, Tag(TAGS[0])] | Annotated[list[Pixels], Tag(TAGS[1])],
        Discriminator(lambda value: TAGS[isinstance(value, list)]),
    ]


@with_config(STRICT)
class _Result(TypedDict):
    image_id: Id
    category_id: Id
    score: FiniteFloat
    bbox: NotRequired[Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]]
    segmentation: NotRequired[_RLE]
    maskiou: NotRequired[FiniteFloat]
    mask_score: NotRequired[FiniteFloat]
    mask_confidence: NotRequired[FiniteFloat]


_SCHEMA = TypeAdapter(list[_Result], config=ConfigDict(strict=True))


def results_problem(results: object) -> str | None:
    """Returns what is wrong with the content of a COCO result file, or ``None``.

    Args:
        results: the content of the file.
    """
    if not isinstance(results, list):
        return "expected a JSON list"
    try:
        _SCHEMA.validate_python(results)
    except ValidationError as error:
        return _message(error)
    # A file has masks for all of its records, or for none and boxes for all.
    for key in ("segmentation", "bbox"):
        lacking = [index for index, result in enumerate(results) if key not in result]
        if not lacking:
            return None
        if len(lacking) < len(results):
            return f"record {lacking[0]} has no {key}, as others have"
    return "record 0 has no bbox or segmentation"


def _message(error: ValidationError) -> str:
    details = error.errors(include_url=False)[0]
    index, *path = details["loc"]
    if not path:
        return f"record {index} is not a JSON object"
    where = ".".join(str(step) for step in path if step not in TAGS)
    if details["type"] == "missing":
        return f"record {index} has no {where}"
    return f"record {index}: {where} is {shown(details['input'])}; {details['msg']}"
