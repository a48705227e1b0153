"""The schema of COCO-format annotation files: the type of every value, at every depth."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import ErrorDetails
from typing_extensions import NotRequired, TypedDict

STRICT = ConfigDict(strict=True, extra="ignore")
NonEmpty = Annotated[str, Field(min_length=1)]


@with_config(STRICT)
class _Category(TypedDict):
    id: int
    name: NonEmpty


@with_config(STRICT)
class _Image(TypedDict):
    id: int
    file_name: NonEmpty
    width: PositiveInt
    height: PositiveInt


@with_config(STRICT)
class _RLE(TypedDict):
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    counts: str | list[NonNegativeInt]


Polygons = Annotated[list[Annotated[list[FiniteFloat], Field(min_length=6)]], Field(min_length=1)]


@with_config(STRICT)
class _Annotation(TypedDict):
    id: int
    image_id: int
    category_id: int
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    segmentation: Annotated[
        Annotated[_RLE, Tag("RLE")] | Annotated[Polygons, Tag("polygons")],
        Discriminator(lambda value: "RLE" if isinstance(value, dict) else "polygons"),
    ]
    iscrowd: NotRequired[Literal[0, 1]]
    ignore: NotRequired[Literal[0]]
    area: NotRequired[FiniteFloat]


KINDS = {"images": "image", "categories": "category", "annotations": "annotation"}
_SCHEMAS = {
    "images": TypeAdapter(list[_Image], config=ConfigDict(strict=True)),
    "categories": TypeAdapter(list[_Category], config=ConfigDict(strict=True)),
    "annotations": TypeAdapter(list[_Annotation], config=ConfigDict(strict=True)),
}
# What a value must be, by pydantic's type of error.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "string_too_short": "a nonempty string",
    "list_type": "a list",
    "dict_type": "a JSON object",
}
_BRANCHES = ("RLE", "polygons", "str", "list[constrained-int]")  # of unions, not of the file
SHOWN = 60  # characters of a value in a message


def schema_problems(content: object, *, annotations: bool = True) -> Iterator[str]:
    """Yields a message for every value that is missing or of the wrong type.

    Args:
        content: the content of an annotation file.
        annotations: whether ``annotations`` are needed; those of test sets are not public.
    """
    if not isinstance(content, dict):
        yield "expected a JSON object with 'images', 'annotations' and 'categories'"
        return
    for key, schema in _SCHEMAS.items():
        if key == "annotations" and not annotations and key not in content:
            continue
        if not isinstance(content.get(key), list):
            yield f"'{key}' is missing or is not a list"
            continue
        try:
            schema.validate_python(content[key])
        except ValidationError as error:
            reported = set()
            for details in error.errors(include_url=False):
                if details["loc"][0] not in reported:  # the first one of a record says enough
                    reported.add(details["loc"][0])
                    yield _message(key, content[key], details)


def _message(key: str, records: list, error: ErrorDetails) -> str:
    index, *path = error["loc"]
    path = [
        step for step in path if step not in ("RLE", "polygons", "str", "list[constrained-int]")
    ]
    record = _name(KINDS[key], records[index], index)
    if not path:
        return f"{record} is not a JSON object"
    if error["type"] == "missing":
        *owner, name = path
        return f"{record}: {_path(owner)} has no '{name}'" if owner else f"{record} has no '{name}'"
    return f"{record}: {_path(path)} is {_shown(error['input'])}; it must be {_expected(error)}"


def _name(kind: str, record: Any, index: int) -> str:
    known = isinstance(record, dict) and isinstance(record.get("id"), int | str)
    return f"{kind} {record['id']}" if known else f"{kind} at index {index}"


def _path(path: list) -> str:
    first, *rest = path
    return str(first) + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest
    )


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _expected(error: ErrorDetails) -> str:
    context, kind = error.get("ctx", {}), error["type"]
    if kind == "literal_error":
        return context["expected"]
    if kind == "greater_than":
        return f"above {context['gt']}"
    if kind == "greater_than_equal":
        return f"at least {context['ge']}"
    if kind in ("too_short", "too_long"):
        field = error["loc"][1]
        if field == "bbox":
            return "[x, y, width, height]"
        if field == "segmentation":
            return (
                "[height, width]"
                if "size" in error["loc"]
                else "a list of polygons [x0, y0, x1, y1, ...] with at least three points"
            )
    return _EXPECTED.get(kind, error["msg"])
