"""A data card as Markdown with a Hugging Face card header."""

import json
import re

from data_cards.labels import CLASS_NAMES
from data_cards.text import format_bytes

MISSING = "not stated"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_markdown(card: dict) -> str:
    """The card (see `data_cards.card`) as README.md of a data set on Hugging Face."""
    # JSON is YAML.
    header = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in _make_header(card).items())
    parts = [
        f"---\n{header}---\n\n# {_escape(card['name'])}",
        "**Simulation:** a program drew these pictures." if card["simulated"] else "",
        f"{card['pictures']:,} pictures, real and generated, {format_bytes(card['bytes'])}.",
        "## Counts\n\n"
        + _table(["split", *CLASS_NAMES], [[s, *(c[name] for name in CLASS_NAMES)] for s, c in card["splits"].items()]),
        "## Sources\n\n" + _sources(card),
        "## What the files are\n\n" + _files(card),
        "## How the set was made\n\n" + _making(card),
        "## Shortcut audit\n\n" + _audit(card),
        "## Near-duplicates\n\n" + _duplicates(card),
        "## Set aside\n\n" + _set_aside(card),
        "## Known limits\n\n" + "\n".join(f"- {_escape(one)}" for one in card["limits"]),
        "## Versions and hashes\n\n" + _versions(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def name_licence(card: dict) -> str | None:
    """The licence of all sources, where each states the same; else None."""
    licences = {one["provenance"]["licence"] for one in card["sources"]}
    return next(iter(licences)) if len(licences) == 1 else None


def _make_header(card: dict) -> dict:
    licence = name_licence(card)
    known = licence and re.fullmatch(r"[a-z0-9.+-]+", licence.lower())
    return {
        "pretty_name": card["name"],
        "license": licence.lower() if known else "other",
        **({} if known else {"license_name": licence or "not-stated-for-all-sources"}),
        "task_categories": ["image-classification"],
        "tags": ["ai-generated-image-detection", "data-card", *(["simulation"] if card["simulated"] else [])],
        "size_categories": [next((name for most, name in _SIZES if card["pictures"] < most), "n>1M")],
    }


def _sources(card: dict) -> str:
    rows = []
    for one in card["sources"]:
        said = one["provenance"]
        rows.append([
            one["class"], one["source"], one["pictures"], *(said[name] or MISSING for name in
            ("name", "generator" if one["class"] == "fake" else "camera", "url", "licence", "date", "consent")),
            said["note"] or "",
        ])  # fmt: skip
    return _table(
        ["class", "source", "pictures", "name", "camera or generator", "URL", "licence", "date", "consent", "note"],
        rows,
    )


def _files(card: dict) -> str:
    rows = []
    everything = [(label, "all", one) for label, one in card["classes"].items()]
    for label, source, one in [*everything, *((one["class"], one["source"], one) for one in card["sources"])]:
        rows.append([
            label, source, one["pictures"], ", ".join(f"{name} {count}" for name, count in one["formats"].items()),
            *(_span(one[name]) for name in ("width", "height", "aspect", "quality", "bytes_per_pixel")),
            f"{one['exif']} ({one['camera']})",
        ])  # fmt: skip
    headers = ["class", "source", "pictures", "formats", "width", "height", "aspect", "JPEG quality", "bytes a pixel"]
    return _table([*headers, "EXIF (camera named)"], rows) + "\n\nLeast, median, most. No EXIF value is kept."


def _making(card: dict) -> str:
    lines = [f"- Split: {card['split_rule']}"]
    for one in card["selections"]:
        steps = "; ".join(f"{step['step']}: {step['pictures']}" for step in one.get("steps", []))
        told = ", ".join(f"{name} {one[name]}" for name in ("fraction", "seed", "where", "max_per_source", "balance"))
        lines.append(f"- Selection from {', '.join(one.get('from', []))}: {told}; pictures left: {steps}")
    if not card["selections"]:
        lines.append("- Selection: none, all pictures found")
    if card["variants"]:
        lines.append(f"- Variants: {card['variants']['recipe']} ({', '.join(card['variants']['names'])})")
    if card["settings"]:
        features = card["settings"]["features"]
        told = ", ".join(f"{name} {value}" for name, value in features.items())
        lines.append(f"- Features: {told}; seed {card['settings']['seed']}")
    return _escape("\n".join(lines))


def _audit(card: dict) -> str:
    audit = card["audit"]
    if audit["reason"]:
        return _escape(audit["reason"])
    rows = [
        [one["family"], _auroc(one["pictures_held_out"]), _auroc(one["sources_held_out"]), one["verdict"],
         one["telling"][0]["words"] if one["telling"] else ""]
        for one in audit["findings"]
    ]  # fmt: skip
    limits = audit["limits"]
    return (
        f"Verdict: **{audit['verdict']}** (warn from {limits['warn']}, fail above {limits['fail']}). How well trivial "
        "properties alone tell the classes apart, as AUROC with 95% interval; 0.5 is guessing.\n\n"
        + _table(["seen", "pictures held out", "sources held out", "verdict", "most telling"], rows)
    )


def _duplicates(card: dict) -> str:
    found = card["near_duplicates"]
    lines = [
        f"{found['pictures']} pictures in {found['groups']} groups; {found['exact_copies']} exact copies; "
        f"{found['groups_across_splits']} groups across splits, {found['groups_across_classes']} across classes."
    ]
    for kind in ("across_splits", "across_classes"):
        lines += [
            "- " + " = ".join(f"{_cell(one['image'])} ({one['split']}, {one['class']})" for one in group)
            for group in found[kind]
        ]
    return "\n".join([lines[0], "", *lines[1:]]).rstrip()


def _set_aside(card: dict) -> str:
    if not card["set_aside"]:
        return "No file."
    return "\n".join(f"- {_cell(one['file'])}: {_cell(one['reason'])}" for one in card["set_aside"])


def _versions(card: dict) -> str:
    lines = [f"- {name} {value}" for name, value in card["versions"].items()]
    lines += [f"- set sha256 `{card['hashes']['set_sha256']}`, of {card['hashes']['set_sha256_of']}"]
    return "\n".join([*lines, f"- perceptual hash: {card['hashes']['perceptual']}"])


def _auroc(one: dict | None) -> str:
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" if one else ""


def _span(one: dict) -> str:
    return "" if one["median"] is None else ", ".join(f"{one[name]:g}" for name in ("least", "median", "most"))


def _table(headers: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in [headers, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(headers), *lines[1:]])


def _cell(value: object) -> str:
    return " ".join(_escape(str(value)).replace("|", "\\|").split())


def _escape(text: str) -> str:
    """Texts of others stay text: no HTML, no links, no images."""
    return re.sub(r"([\\`*\[\]<>])", r"\\\1", text)
