"""Errors that a user can fix: one line that names the file or value, what was expected, what to do.

Every command turns these into a message and an exit status (`data_cards.core.console`); any
other exception is a fault of the program and keeps its traceback.
"""

# What code of ours raises when it reads data that was damaged, or made by somebody to that end.
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


class UserError(Exception):
    """A problem that the user can fix; the message says how. Exit status 1."""

    exit_status = 1


class UsageError(UserError):
    """A wrong call: an option's value that is not valid. Exit status 2."""

    exit_status = 2


class StoreError(UserError):
    """A feature store that is incomplete, damaged or of another format version. Exit status 3."""

    exit_status = 3


class UnsafeFileError(StoreError):
    """An entry of a store or run that is a link out of it, or neither a file nor a folder: nothing of it is used."""


class PictureError(UserError):
    """A picture file that cannot be used; the message is the reason, without the file's name.

    Attributes
    ----------
    reason : str, without the advice
    """

    def __init__(self, reason: str, advice: str | None = None):
        """Create the error; `advice` is for who makes a store, and names options that only `pipeline` has."""
        super().__init__(reason if advice is None else f"{reason}; {advice}")
        self.reason = reason


def format_error(error: Exception) -> str:
    """Format an error as the first line of its message, or as its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
