"""Names of classes and splits in folders, stores and cards."""

CLASS_NAMES = ("real", "fake")
REAL, FAKE = 0, 1  # labels: indices into the names
SPLITS = TRAIN, VAL, TEST = ("train", "val", "test")
