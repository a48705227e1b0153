"""Formats numbers for the HTML report."""

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 2) -> str:
    """Formats a number; ``None`` becomes a dash."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """Formats a number with a plus or minus sign; ``None`` becomes a dash."""
    return NOTHING if value is None else f"{value:+.2f}".replace("-", MINUS)


def counted(value: int, singular: str, plural: str) -> str:
    """Formats a count with its noun, for example ``1,203 classes``."""
    return f"{value:,} {singular if value == 1 else plural}"
