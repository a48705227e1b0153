"""The schema of COCO-format annotation files: the type of every value, at every depth."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import ErrorDetails
from typing_extensions import NotRequired, TypedDict

from ..escaping import shown

STRICT = ConfigDict(strict=True, extra="ignore")
NonEmpty = Annotated[str, Field(min_length=1)]
LARGEST_ID = 2**53  # hotcoco's ids are unsigned, and some pass as floats
Id = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Side = Annotated[PositiveInt, Field(le=2**31 - 1)]
RunLength = Annotated[int, Field(ge=0, lt=2**32)]  # as in pycocotools
# Branches of unions, which pydantic puts into the path of an error.
_TAGS = ("RLE", "polygons", "COCO", "LVIS", "str", "list[constrained-int]")


@with_config(STRICT)
class _Category(TypedDict):
    id: Id
    name: NonEmpty
    frequency: NotRequired[Literal["r", "c", "f"]]


@with_config(STRICT)
class _Image(TypedDict):
    id: Id
    width: Side
    height: Side
    coco_url: NotRequired[NonEmpty]
    neg_category_ids: NotRequired[list[Id]]
    not_exhaustive_category_ids: NotRequired[list[Id]]


@with_config(STRICT)
class _NamedImage(_Image):
    file_name: NonEmpty


@with_config(STRICT)
class _LinkedImage(_Image):
    coco_url: Annotated[str, Field(pattern="/.+/.")]


@with_config(STRICT)
class _RLE(TypedDict):
    size: Annotated[list[Side], Field(min_length=2, max_length=2)]
    counts: str | list[RunLength]


_Mask = Annotated[
    Annotated[_RLE, Tag("RLE")]
    | Annotated[list[Annotated[list[FiniteFloat], Field(min_length=6)]], Tag("polygons")],
    Discriminator(lambda value: "RLE" if isinstance(value, dict) else "polygons"),
]


@with_config(STRICT)
class _Annotation(TypedDict):
    id: Id
    image_id: Id
    category_id: Id
    bbox: Annotated[list[FiniteFloat], Field(min_length=4, max_length=4)]
    # Empty, or missing, if there are only boxes.
    segmentation: NotRequired[_Mask]
    iscrowd: NotRequired[Literal[0, 1]]
    ignore: NotRequired[Literal[0]]
    area: NotRequired[FiniteFloat]
    keypoints: NotRequired[list[FiniteFloat]]


def image_name(image: dict) -> str:
    """Returns the path of an image relative to the image folder of the dataset.

    Args:
        image: the record of the image. For LVIS, the path is the last two parts of ``coco_url``, as
            in Detectron2, even if there is a ``file_name``, which is that of an older COCO.
    """
    if is_linked(image):
        return "/".join(image["coco_url"].split("/")[-2:])
    return str(image.get("file_name") or "")


def is_linked(image: object) -> bool:
    """Whether an image's record is one of LVIS, which names the file by its address."""
    if not isinstance(image, dict) or "coco_url" not in image:
        return False
    return "neg_category_ids" in image or "file_name" not in image


def has_readable_mask(segmentation: object) -> bool:
    """Whether a ``segmentation`` is of the right types."""
    try:
        _MASK_SCHEMA.validate_python(segmentation)
    except ValidationError:
        return False
    return True


KINDS = {"images": "image", "categories": "category", "annotations": "annotation"}
_AnyImage = Annotated[
    Annotated[_NamedImage, Tag("COCO")] | Annotated[_LinkedImage, Tag("LVIS")],
    Discriminator(lambda image: "LVIS" if is_linked(image) else "COCO"),
]
_SCHEMAS = {
    "images": TypeAdapter(list[_AnyImage], config=ConfigDict(strict=True)),
    "categories": TypeAdapter(list[_Category], config=ConfigDict(strict=True)),
    "annotations": TypeAdapter(list[_Annotation], config=ConfigDict(strict=True)),
}
_MASK_SCHEMA = TypeAdapter(_Mask, config=ConfigDict(strict=True))
# What a value must be, by pydantic's type of error.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "string_unicode": "a string without halves of surrogate pairs",
    "string_too_short": "a nonempty string",
    "string_pattern_mismatch": "an address that ends with a folder and a file name",
    "list_type": "a list",
    "dict_type": "a JSON object",
}


def schema_problems(content: object) -> Iterator[str]:
    """Yields a message for every value that is missing or of the wrong type.

    Args:
        content: the content of an annotation file. ``annotations`` may be missing: those of test
            sets are not public.
    """
    if not isinstance(content, dict):
        yield "expected a JSON object with 'images', 'annotations' and 'categories'"
        return
    for key, schema in _SCHEMAS.items():
        if key == "annotations" and key not in content:
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
    path = [step for step in path if step not in _TAGS]
    record = _name(KINDS[key], records[index], index)
    if not path:
        return f"{record} is not a JSON object"
    if error["type"] == "missing":
        *owner, name = path
        return f"{record}: {_path(owner)} has no '{name}'" if owner else f"{record} has no '{name}'"
    return f"{record}: {_path(path)} is {shown(error['input'])}; it must be {_expected(error)}"


def _name(kind: str, record: Any, index: int) -> str:
    known = isinstance(record, dict) and isinstance(record.get("id"), int | str)
    return f"{kind} {shown(record['id']).strip(QUOTE)}" if known else f"{kind} at index {index}"


class NamedRecords:
    """The records of an annotation file by the names that messages about them begin with."""

    def __init__(self, content: object):
        """
        Args:
            content: the content of the file, of any type.
        """
        self._records: dict[str, tuple[str, dict]] = {}
        for key, kind in KINDS.items():
            records = content.get(key) if isinstance(content, dict) else None
            for index, record in enumerate(records if isinstance(records, list) else []):
                if isinstance(record, dict):
                    self._records.setdefault(_name(kind, record, index), (kind, record))

    def of(self, message: str) -> tuple[str | None, dict]:
        """Returns the kind of the record that a message begins with, and the record.

        Args:
            message: a message of the schema or of the rules about the content.
        """
        for end, character in enumerate(message):
            if character in ": " and message[:end] in self._records:
                return self._records[message[:end]]
        return None, {}


def _path(path: list) -> str:
    first, *rest = path
    return str(first) + "".join(
        f"[{step}]" if isinstance(step, int) else f".{step}" for step in rest
    )


QUOTE = "'"


def _expected(error: ErrorDetails) -> str:
    context, kind = error.get("ctx", {}), error["type"]
    if kind == "literal_error":
        return context["expected"]
    for bound, words in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most")):
        if bound in context:
            return f"{words} {context[bound]}"
    if kind in ("too_short", "too_long"):
        field = next(step for step in error["loc"][1:] if step not in _TAGS)
        if field == "bbox":
            return "[x, y, width, height]"
        if field == "segmentation":
            return "[height, width]" if "size" in error["loc"] else POLYGONS
    return _EXPECTED.get(kind, error["msg"])


POLYGONS = "a list of polygons [x0, y0, x1, y1, ...] with at least three points"
