"""A data card as one self-contained HTML page with plots: nothing is loaded, every text is escaped."""

from data_cards.audit.properties import FAMILIES, FORMER_NAMES
from data_cards.card.contents import MEASURES
from data_cards.card.markdown import MISSING, create_environment, format_features, format_number
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import format_bytes
from data_cards.dataset.source_info import FIELDS


def format_html(card: dict) -> str:
    """Format a card (see `data_cards.card.contents`) as a page."""
    environment = create_environment(autoescape=True)
    environment.filters |= {"size": format_bytes, "number": format_number, "features": format_features}
    described = [one for one in card["sources"] if any(one["provenance"].values())]
    return environment.get_template("card.html").render(
        card=card,
        classes=CLASS_NAMES,
        measures=MEASURES,
        families=FAMILIES | {former: FAMILIES[name] for former, name in FORMER_NAMES.items()},
        fields=FIELDS,
        missing=MISSING,
        described=described,
        silent=[one for one in card["sources"] if one not in described],
        plots={
            name: {**_compute_bars(histogram), "all": _find_ends(card, name)}
            for name, histogram in card["histograms"].items()
        },
    )


def _find_ends(card: dict, measure: str) -> tuple[float, float]:
    """Return the smallest and the largest value of a measure in both classes."""
    spans = [one[measure] for one in card["classes"].values() if one[measure]["median"] is not None]
    return min(one["least"] for one in spans), max(one["most"] for one in spans)


def _compute_bars(histogram: dict) -> dict:
    """Compute the bars of both classes, as shares of each class, in a drawing of 320 x 120 units."""
    bins = len(histogram["edges"]) - 1
    # Cards of earlier versions have no `outside`: their bins hold all pictures.
    outside = histogram.get("outside") or dict.fromkeys(CLASS_NAMES, 0)
    totals = {label: max(sum(histogram[label]) + outside[label], 1) for label in CLASS_NAMES}
    shares = {label: [count / totals[label] for count in histogram[label]] for label in CLASS_NAMES}
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
    ends = {"least": histogram["edges"][0], "middle": histogram["edges"][bins // 2], "most": histogram["edges"][-1]}
    return {"bars": bars, **ends, "outside": outside if any(outside.values()) else None}
