"""A data card as one self-contained HTML page with plots: nothing is loaded, every text is escaped."""

from data_cards.audit.properties import FAMILIES
from data_cards.card.contents import MEASURES
from data_cards.card.markdown import MISSING, create_environment
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import format_bytes
from data_cards.dataset.source_info import FIELDS


def format_html(card: dict) -> str:
    """Format a card (see `data_cards.card.contents`) as a page."""
    environment = create_environment(autoescape=True)
    environment.filters["size"] = format_bytes
    return environment.get_template("card.html").render(
        card=card,
        classes=CLASS_NAMES,
        measures=MEASURES,
        families=FAMILIES,
        fields=FIELDS,
        missing=MISSING,
        plots={name: _compute_bars(histogram) for name, histogram in card["histograms"].items()},
    )


def _compute_bars(histogram: dict) -> dict:
    """Compute the bars of both classes as shares of their class, in a drawing of 320 x 120."""
    bins = len(histogram["edges"]) - 1
    shares = {label: [count / max(sum(histogram[label]), 1) for count in histogram[label]] for label in CLASS_NAMES}
    top = max(max(own) for own in shares.values()) or 1
    width = 320 / bins
    bars = [
        {
            "label": label,
            "x": round(number * width + place * width / 2, 2),
            "width": round(width / 2 - 0.5, 2),
            "height": round(110 * share / top, 2),
            "y": round(120 - 110 * share / top, 2),
        }
        for place, label in enumerate(CLASS_NAMES)
        for number, share in enumerate(shares[label])
        if share
    ]
    return {"bars": bars, "least": histogram["edges"][0], "most": histogram["edges"][-1]}
