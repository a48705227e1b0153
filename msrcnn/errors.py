"""The error type that is shown to users without a traceback."""


class UserError(ValueError):
    """Raised for wrong input by the user; the message says what is wrong and how to fix it."""


def printable(text: str) -> str:
    """Removes control characters, with which text from a file could manipulate a terminal."""
    return "".join(character for character in text if character.isprintable())
