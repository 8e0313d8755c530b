"""Text of single scores, intervals, shares and spans."""

from eval.scores.bootstrap import LEVEL
from eval.scores.metrics import METRICS
from pipeline.features.variants import CONDITIONS

INTERVAL = f"{LEVEL:.0%} interval"
SAME, NONE = "same in every resample", "no interval"
INTERVAL_NOTE = f"Where it says “{NONE}”, there are too few pictures for resamples, and the score may be far off"
ALL_NOTE = (
    "All together can score lower than one of them: with more properties, a classifier also learns accidents of its "
    "training pictures."
)
EXPERT_COLUMNS = ("adds to photographs", "adds to generated pictures")
PLANE_COLUMNS = ("log-odds lost, photographs", "log-odds lost, generated")
SCOPES = {"clean": "pictures as they are", "all": "all variants", "unleaked": "without leaked pictures"}

VARIANTS = dict(zip(CONDITIONS, ("as they are", "all saved as JPEG 75", "after web processing"), strict=True))
SURE_SHARES = {
    "sure": "sure verdicts",
    "wrong_when_sure": "wrong among these",
    "wrong_of_surest_quarter": "wrong in the surest quarter",
}


def format_value(value: float | None, percent: bool) -> str:
    """Format a score: 74.2%, 0.742, or n/a where there is none."""
    if value is None:
        return "n/a"
    return f"{value:.1%}" if percent else f"{value:.3f}"


def format_interval(estimate: dict, percent: bool) -> str:
    """Format an interval: 65.1 to 82.0%, 0.651 to 0.820; `NONE` if there is none, `SAME` if all resamples agree."""
    if estimate["value"] is None:
        return ""
    if estimate["low"] is None:
        return NONE
    if estimate["low"] == estimate["high"]:
        return SAME
    if percent:
        return f"{100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}%"
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def format_score(name: str, estimate: dict) -> tuple[str, str]:
    """Format a score of `METRICS`, and its interval."""
    percent = METRICS[name].percent
    return format_value(estimate["value"], percent), format_interval(estimate, percent)


def format_share(estimate: dict) -> tuple[str, str]:
    """Format a share of pictures, and its interval, in per cent."""
    return format_value(estimate["value"], True), format_interval(estimate, True)


def format_score_in_line(name: str, estimate: dict) -> str:
    """Format a score of `METRICS` with its interval: 0.742 (0.651 to 0.820)."""
    return _join_interval(*format_score(name, estimate))


def format_share_in_line(estimate: dict) -> str:
    """Format a share of pictures with its interval: 74.2% (65.1 to 82.0%)."""
    return _join_interval(*format_share(estimate))


def _join_interval(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def format_span(span: dict | None) -> str:
    """Format minimum, median and maximum of a data card's property: 256 · 500 · 964; "none" if it has none."""
    if span is None or span["median"] is None:
        return "none"
    return " · ".join(f"{span[name]:g}" for name in ("least", "median", "most"))
