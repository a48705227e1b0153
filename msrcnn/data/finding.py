"""What a check found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A kind of problem, and the records that have it.

    Attributes:
        stops: whether the data cannot be used with it; otherwise it is worth a look.
        messages: one for each record, which names it.
        readable: whether the types of the values are those of the format.
    """

    stops: bool
    messages: list[str]
    readable: bool = True
