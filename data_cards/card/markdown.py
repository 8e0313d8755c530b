"""A data card as Markdown with a Hugging Face card header."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_cards.core.text import dump_json, escape_untrusted, escape_value, format_bytes

MISSING = "not stated"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def format_markdown(card: dict) -> str:
    """Format a card (see `data_cards.card.contents`) as README.md of a data set on Hugging Face."""
    environment = create_environment(autoescape=False, keep_trailing_newline=True)
    environment.filters |= {
        "number": format_number,
        "cell": _format_cell,
        "text": _escape_markdown,
        "size": format_bytes,
        "features": format_features,
    }
    fields = _compute_header(card).items()
    header = "".join(f"{key}: {dump_json(value)}\n" for key, value in fields)  # JSON is YAML
    return environment.get_template("README.md.j2").render(
        card=card,
        header=Markup(header),  # our own text of several lines
        missing=MISSING,
    )


def create_environment(**options: bool) -> Environment:
    """Create the environment of card templates: texts are escaped, and an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escape_value,
        **options,
    )


def find_common_licence(card: dict) -> str | None:
    """Return the licence of all sources if they state the same one; else None."""
    licences = {one["provenance"]["licence"] for one in card["sources"]}
    return next(iter(licences)) if len(licences) == 1 else None


def _compute_header(card: dict) -> dict:
    licence = find_common_licence(card)
    known = licence and re.fullmatch(r"[a-z0-9.+-]+", licence.lower())
    return {
        "pretty_name": card["name"],
        "license": licence.lower() if known else "other",
        **({} if known else {"license_name": licence or "not-stated-for-all-sources"}),
        "task_categories": ["image-classification"],
        "tags": ["ai-generated-image-detection", "data-card", *(["simulation"] if card["simulated"] else [])],
        "size_categories": [next((name for most, name in _SIZES if card["pictures"] < most), "n>1M")],
    }


def format_number(value: float) -> str:
    """Format a measure with at most three digits after the point: 7,541, 0.325."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3f}".rstrip("0")


def format_features(settings: dict) -> str:
    """Format a store's settings of features as a list, without those that do not apply."""
    if settings.get("estimator") == "none":
        return "profiles, no planes"
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if value is not None)


def _format_cell(value: object) -> str:
    return _escape_markdown(escape_untrusted(str(value))).replace("|", "\\|")


def _escape_markdown(text: str) -> str:
    """Escape untrusted text: no HTML, no links, no images."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", text)
