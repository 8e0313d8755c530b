"""Score of a run on its test pictures: `test_score.json` in its folder, which `report` writes."""

from dataclasses import asdict, dataclass
from pathlib import Path

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import DAMAGE
from data_cards.core.files import write_json
from data_cards.core.value_types import check_types

TEST_SCORE = "test_score.json"


@dataclass(frozen=True)
class ReportedScore:
    """The score of a run's report on its test split.

    Attributes
    ----------
    created : when the run was started, as in its settings: another run's score is not shown
    condition : variants of the pictures that were scored, such as "clean"
    auroc, low, high : value and ends of its interval
    reported : when the report was written, ISO 8601 in UTC
    """

    created: str
    condition: str
    auroc: float
    low: float
    high: float
    reported: str

    def to_dict(self) -> dict:
        """Convert to plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "ReportedScore":
        """Invert `to_dict`; raises TypeError or ValueError for other values."""
        check_types(cls, values)
        score = cls(**values)
        return cls(**{**values, **{name: float(getattr(score, name)) for name in ("auroc", "low", "high")}})


def write_reported_score(folder: Path, score: ReportedScore) -> None:
    """Write the score into a run's folder."""
    write_json(folder / TEST_SCORE, score.to_dict())


def read_reported_score(folder: Path) -> ReportedScore | None:
    """Read the score in a run's folder; None if it is missing or damaged."""
    try:
        return ReportedScore.from_dict(read_json(folder, TEST_SCORE))
    except (OSError, *DAMAGE):
        return None
