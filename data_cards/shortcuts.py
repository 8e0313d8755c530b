"""What trivial properties of the files alone tell about the class: format, size, bytes, JPEG quality.

Sets are often collected so that one class has other sizes or another JPEG quality than the
other. A classifier that sees nothing but these properties says how much of a score such
accidents could explain. It is fitted on the training pictures, like the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

# The inputs of each classifier. The first has them all.
ALL = "all of these together"
SHORTCUTS = {
    ALL: ("format", "width", "height", "bytes_per_pixel", "quality"),
    "file format": ("format",),
    "width and height": ("width", "height"),
    "bytes per pixel": ("bytes_per_pixel",),
    "JPEG quality": ("quality",),
}


@dataclass(frozen=True)
class FileProperties:
    """Trivial properties of N picture files.

    Attributes
    ----------
    format : object (N,), names such as JPEG or PNG
    width, height : int (N,), in pixels
    bytes : int (N,), sizes of the files
    quality : int (N,), estimated JPEG quality, 1 to 100; -1 for other formats
    """

    format: np.ndarray
    width: np.ndarray
    height: np.ndarray
    bytes: np.ndarray
    quality: np.ndarray

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], rows: np.ndarray) -> "FileProperties":
        """From the columns of a feature store, for one row a picture."""
        return cls(
            format=columns["format"][rows],
            width=columns["width"][rows],
            height=columns["height"][rows],
            bytes=columns["bytes"][rows],
            quality=columns["file_quality"][rows],
        )

    def as_inputs(self, names: tuple[str, ...]) -> np.ndarray:
        """The named inputs of a classifier: object array (N, len(names))."""
        values = {
            "format": self.format,
            "width": self.width.astype(np.float64),
            "height": self.height.astype(np.float64),
            "bytes_per_pixel": self.bytes / (self.width.astype(np.float64) * self.height),
            "quality": self.quality.astype(np.float64),  # -1 lies apart from all qualities: a tree can split it off
        }
        return np.stack([values[name].astype(object) for name in names], axis=1)


def score_shortcuts(train: FileProperties, labels: np.ndarray, test: FileProperties) -> dict[str, np.ndarray]:
    """Fit a classifier on each set of `SHORTCUTS` and score other pictures with it.

    Parameters
    ----------
    train : properties of the training pictures
    labels : int (N,), their classes: 0 real, 1 fake; both must be there
    test : properties of M pictures to score

    Returns
    -------
    Probability of "fake", float64 (M,), by name of `SHORTCUTS`. Deterministic.
    """
    scores = {}
    for shortcut, names in SHORTCUTS.items():
        classifier = _make_classifier(names)
        # One thread: on sets as small, many mostly wait for one another.
        with threadpool_limits(1):
            classifier.fit(train.as_inputs(names), labels)
            scores[shortcut] = classifier.predict_proba(test.as_inputs(names))[:, 1]
    return scores


def _make_classifier(names: tuple[str, ...]):
    is_category = [name == "format" for name in names]
    # A format that the training pictures do not have counts as missing.
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    columns = [number for number, category in enumerate(is_category) if category]
    boosting = HistGradientBoostingClassifier(
        # Small trees and leaves of at least 10: sets may have as few as some dozen pictures.
        max_leaf_nodes=8,
        min_samples_leaf=10,
        early_stopping=False,
        random_state=0,
        categorical_features=sorted(is_category, reverse=True),  # the encoder puts its columns first
    )
    return make_pipeline(make_column_transformer((encode, columns), remainder="passthrough"), boosting)
