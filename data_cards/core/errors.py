"""Errors that a user can fix: one line that names the file or value, what was expected, what to do.

Every command turns these into a message and an exit status (`data_cards.core.console`); any
other exception is a fault of the program and keeps its traceback.
"""

# Exceptions that our code raises when it reads damaged or hostile data.
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
    """An entry of a store or run that is a link out of it, or neither a file nor a folder; it is never used."""


class PictureError(UserError):
    """A picture file that cannot be used; the message is the reason, without the file's name.

    Attributes
    ----------
    reason : str, without the advice
    """

    def __init__(self, reason: str, advice: str | None = None):
        """Create the error; `advice` is for users of `pipeline`, and names options that only it has."""
        super().__init__(reason if advice is None else f"{reason}; {advice}")
        self.reason = reason


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def interrupt_status(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status of an interrupted command: 128 plus the signal's number."""
    return 143 if isinstance(interrupt, Terminated) else 130


def format_error(error: Exception) -> str:
    """Format an error as the first line of its message, or as its type if the message is empty."""
    return (str(error).splitlines() or [type(error).__name__])[0]
