"""Numbers as a reader finds them in the report."""

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 2) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.2f}".replace("-", MINUS)


def counted(value: int, singular: str, plural: str) -> str:
    return f"{value:,} {singular if value == 1 else plural}"
