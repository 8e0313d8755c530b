"""A comparison's figures in words: which differences are real, and which may be chance."""

from eval.metrics import METRICS
from eval.words import FEW_PICTURES, write_value


def summarise_comparison(comparison: dict) -> list[str]:
    """The comparison's message, from its figures (see `comparison.json`)."""
    sentences = [_tell_difference(one) for one in comparison["differences"]]
    for one in comparison["differences"]:
        real = [name for name in METRICS if name != "auroc" and one["scores"][name]["real"]]
        if real:
            listed = ", ".join(f"{METRICS[name].title} {_write_change(name, one['scores'][name])}" for name in real)
            also = " too" if one["scores"]["auroc"]["real"] else ""
            sentences.append(f"Real{also}, {one['first']} less {one['second']}: {listed}.")
        else:
            sentences.append(f"No other difference between {one['first']} and {one['second']} is clear.")
    if len(comparison["differences"]) > 1:
        sentences.append(
            f"With {len(comparison['differences'])} pairs of runs the intervals of the differences are wider, so that "
            "all of them together are right in 95 of 100 such comparisons."
        )
    fewest = min(comparison["samples_by_class"].values())
    if fewest < FEW_PICTURES:
        sentences.append(f"Mind the small number: one class has only {fewest} pictures.")
    return sentences


def _tell_difference(one: dict) -> str:
    first, second, lead = one["first"], one["second"], one["scores"]["auroc"]
    if lead["low"] is None:
        return f"Too few pictures to say which of {first} and {second} tells generated pictures better."
    interval = f"{_count(lead['low'])} to {_count(lead['high'])}"
    if not lead["real"]:
        return (
            f"Whether {first} or {second} tells generated pictures better is not clear: of 100 pairs of a photograph "
            f"and a generated picture {first} finds {_count(lead['value'])} (interval {interval})."
        )
    better, worse = (first, second) if lead["value"] > 0 else (second, first)
    return (
        f"{better} tells generated pictures better than {worse}: of 100 pairs of a photograph and a generated picture "
        f"{first} finds {_count(lead['value'])} (interval {interval}). That difference is real."
    )


def _count(lead: float) -> str:
    return f"{abs(100 * lead):.1f} {'more' if lead >= 0 else 'fewer'}"


def _write_change(name: str, change: dict) -> str:
    percent = METRICS[name].percent
    low, high = (write_value(change[bound], percent) for bound in ("low", "high"))
    return f"{'+' if change['value'] > 0 else ''}{write_value(change['value'], percent)} ({low} to {high})"
