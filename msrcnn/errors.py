"""The error that is shown to a user without a traceback, and text that may stand in it."""


class UserError(ValueError):
    """A mistake in the input; the message names it and its mend, and is all a user needs."""


def printable(text: str) -> str:
    """Text from a file, without control characters, which could write anything to a terminal."""
    return "".join(character for character in text if character.isprintable())
