"""Example pictures of a report: the worst mistakes and a seeded sample, with thumbnails.

Thumbnails are made from picture files that still exist unchanged; a report can be written without them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_cards.core.errors import PictureError
from data_cards.core.labels import CLASS_NAMES
from data_cards.image.decode import decode_picture
from data_cards.image.thumbnail import encode_thumbnail
from eval.explain.reasons import INVALID_SCORE
from eval.scores.picture_files import read_original, shuffle_by_class
from eval.scores.rows import VERDICTS, Scored, locate_pictures
from pipeline.store.reader import FeatureStore
from train.model.calibration import UNSURE

WORST_PER_CLASS = 6
EXAMPLES_PER_CLASS = 6

_SIDE = 320  # twice the shown size, for dense screens


@dataclass(frozen=True)
class Example:
    """One picture of the gallery.

    Attributes
    ----------
    path : str, of the picture file
    source, label : str, its source and its class
    verdict : str, "real", "fake" or "unsure"
    reason : str or None, why the verdict is "unsure", a key of `REASON_WORDS`
    probability_fake : float, the detector's score
    thumbnail : str or None, data URL of a small JPEG; None if the file was removed or has changed
    """

    path: str
    source: str
    label: str
    verdict: str
    reason: str | None
    probability_fake: float
    thumbnail: str | None

    @property
    def outcome(self) -> str:
        """ "right", "wrong" or "unsure"."""
        return UNSURE if self.verdict == UNSURE else "right" if self.verdict == self.label else "wrong"

    @property
    def has_valid_score(self) -> bool:
        """Whether the score is a probability."""
        return self.reason not in INVALID_SCORE


def pick_worst(scored: Scored) -> np.ndarray:
    """Return the numbers of the rows with the surest wrong verdicts, at most `WORST_PER_CLASS` per class."""
    chosen = []
    for label in range(len(CLASS_NAMES)):
        wrong = np.flatnonzero((scored.labels == label) & scored.is_wrong & ~scored.is_unsure)
        sureness = np.abs(scored.probability_fake[wrong] - label)
        chosen.append(wrong[np.argsort(-sureness, kind="stable")][:WORST_PER_CLASS])
    return np.concatenate(chosen)


def pick_examples(scored: Scored, leave_out: np.ndarray) -> np.ndarray:
    """Return numbers of rows drawn by seed and the files' hashes, at most `EXAMPLES_PER_CLASS` per class."""
    orders = shuffle_by_class(scored, "gallery")
    return np.concatenate([order[~np.isin(order, leave_out)][:EXAMPLES_PER_CLASS] for order in orders])


def build_examples(scored: Scored, rows: np.ndarray, store: FeatureStore) -> list[Example]:
    """Build the examples of the rows, in order."""
    part = scored[rows]
    reasons = part.list_reasons()
    return [
        Example(
            path=path,
            source=part.columns["source"][number],
            label=CLASS_NAMES[part.labels[number]],
            verdict=VERDICTS[part.verdicts[number]],
            reason=reasons[number],
            probability_fake=float(part.probability_fake[number]),
            thumbnail=_read_thumbnail(Path(path), part.columns["sha256"][number], store.settings.max_pixels),
        )
        for number, path in enumerate(locate_pictures(part, store))
    ]


def _read_thumbnail(path: Path, sha256: str, max_pixels: int) -> str | None:
    data = read_original(path, sha256)
    try:
        picture = None if data is None else decode_picture(data, max_pixels)
    except PictureError:
        return None
    return None if picture is None else encode_thumbnail(picture, _SIDE, quality=82)
