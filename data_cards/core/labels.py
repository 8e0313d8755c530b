"""Names of classes and splits in folders, stores and cards, and columns of tables that say yes or no to a class."""

CLASS_NAMES = ("real", "fake")
REAL, FAKE = 0, 1  # labels: indices into the names
SPLITS = TRAIN, VAL, TEST = ("train", "val", "test")
# Names of columns, in order of preference, with the class that yes means.
YES_COLUMNS = dict.fromkeys(
    ("is_fake", "is_ai", "is_generated", "ai_generated", "fake", "generated", "is_ai_generated", "ai"), "fake"
) | dict.fromkeys(("is_real", "is_human", "real"), "real")
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def read_yes_no(column: str, value: str) -> str | None:
    """Return the class that a value of a column means; None for a column or a value of another kind."""
    truth, yes = _TRUTH.get(value.lower()), YES_COLUMNS.get(column)
    if truth is None or yes is None:
        return None
    return yes if truth else next(label for label in CLASS_NAMES if label != yes)
