"""The names of classes and splits in folders, stores and cards."""

CLASS_NAMES = ("real", "fake")  # a label is an index into this: 0 real, 1 fake
FAKE = CLASS_NAMES.index("fake")
SPLITS = TRAIN, VAL, TEST = ("train", "val", "test")
