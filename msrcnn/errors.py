"""The error that is shown to a user without a traceback."""


class UserError(ValueError):
    """A mistake in the input; the message names it and its mend, and is all a user needs."""
