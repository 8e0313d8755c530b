"""The data card: what a set of pictures is, where it came from, and what it would teach, as plain values.

A pure function of the pictures and of what is said of their sources: no time, no folder of the
user's, so the same set has the same card wherever it lies. `data_cards.markdown`, `croissant` and
`page` write it; `compare` tells two apart.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from data_cards.audit import FINE, UNKNOWN, Audit, describe_briefly
from data_cards.hashes import BITS, MAX_DISTANCE
from data_cards.leaks import find_leaks
from data_cards.pictures import Picture
from data_cards.provenance import FIELDS
from data_cards.scan import SetAside

CARD_VERSION = 1
CLASSES = ("real", "fake")
_LISTED_GROUPS = 50
_BINS = 16
# What is drawn and summarised of the pictures, with a title.
MEASURES = {
    "width": "width, pixels",
    "height": "height, pixels",
    "aspect": "aspect, width over height",
    "quality": "JPEG quality",
    "bytes_per_pixel": "bytes a pixel",
}


def make_card(
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    said: Mapping[tuple[str, str], Mapping[str, str | None]],
    audit: Audit,
    *,
    selections: Sequence[Mapping] = (),
    split_rule: str = "as the folders give it",
    variants: Mapping | None = None,
    settings: Mapping | None = None,
    versions: Mapping[str, str] | None = None,
    simulated: bool = False,
) -> dict:
    """The card's values, ready for JSON.

    Parameters
    ----------
    pictures, set_aside : of the set
    said : of each (class, source), see `data_cards.provenance.read_sources`
    audit : of the pictures
    selections : what made the set out of larger ones
    split_rule, variants, settings, versions : of a build
    simulated : whether the pictures are simulated
    """
    by_source = defaultdict(list)
    for picture in pictures:
        by_source[picture.file.label, picture.file.source].append(picture)
    card = {
        "card_version": CARD_VERSION,
        "simulated": simulated,
        "pictures": len(pictures),
        "bytes": sum(picture.facts.bytes for picture in pictures),
        "splits": _count_splits(pictures),
        "classes": {
            label: _summarise([picture for picture in pictures if picture.file.label == label]) for label in CLASSES
        },
        "sources": [
            {
                "class": label,
                "source": source,
                "splits": dict(sorted(Counter(picture.file.split for picture in members).items())),
                "provenance": {name: said.get((label, source), {}).get(name) for name in FIELDS},
                **_summarise(members),
            }
            for (label, source), members in sorted(by_source.items())
        ],
        "histograms": _draw_histograms(pictures),
        "set_aside": _list_set_aside(pictures, set_aside),
        "near_duplicates": _list_duplicates(pictures),
        "hashes": {
            "set_sha256": _hash_set(pictures),
            "set_sha256_of": "the sorted lines `SHA256 SPLIT/CLASS/SOURCE`, one a picture",
            "perceptual": f"{BITS} signs of a thumbnail's DCT; near-duplicates differ in at most {MAX_DISTANCE}",
        },
        "selections": [dict(one) for one in selections],
        "split_rule": split_rule,
        "variants": dict(variants) if variants else None,
        "settings": dict(settings) if settings else None,
        "versions": dict(versions or {}),
        "audit": {**audit.as_json(), "words": describe_briefly(audit)},
    }
    return {**card, "limits": _find_limits(card)}


def _count_splits(pictures: Sequence[Picture]) -> dict[str, dict[str, int]]:
    counts = Counter((picture.file.split, picture.file.label) for picture in pictures)
    return {
        split: {label: counts[split, label] for label in CLASSES}
        for split in ("train", "val", "test")
        if any(counts[split, label] for label in CLASSES)
    }


def _measure(pictures: Sequence[Picture]) -> dict[str, np.ndarray]:
    facts = [picture.facts for picture in pictures]
    width, height, size, quality = (
        np.array([getattr(one, name) for one in facts], dtype=float) for name in ("width", "height", "bytes", "quality")
    )
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "quality": quality[quality > 0],
        "bytes_per_pixel": size / (width * height),
    }


def _summarise(pictures: Sequence[Picture]) -> dict:
    facts = [picture.facts for picture in pictures]

    def count(name: str) -> dict[str, int]:
        return dict(sorted(Counter(getattr(one, name) or "none" for one in facts).items()))

    spans = {}
    for name, values in _measure(pictures).items():
        ends = [round(float(value), 3) for value in np.quantile(values, (0, 0.5, 1))] if len(values) else [None] * 3
        spans[name] = dict(zip(("least", "median", "most"), ends, strict=True))
    return {
        "pictures": len(pictures),
        "bytes": sum(one.bytes for one in facts),
        "formats": count("format"),
        "modes": count("mode"),
        "subsampling": count("subsampling"),
        "quantisation_tables": len({one.tables for one in facts if one.tables}),
        "exif": sum(one.exif for one in facts),
        "camera": sum(one.camera for one in facts),
        **spans,
    }


def _draw_histograms(pictures: Sequence[Picture]) -> dict[str, dict]:
    everything = _measure(pictures)
    by_class = {label: _measure([one for one in pictures if one.file.label == label]) for label in CLASSES}
    histograms = {}
    for name, values in everything.items():
        if not len(values):
            continue
        edges = np.histogram_bin_edges(values, bins=_BINS)
        histograms[name] = {
            "edges": [round(float(edge), 3) for edge in edges],
            **{label: np.histogram(by_class[label][name], bins=edges)[0].tolist() for label in CLASSES},
        }
    return histograms


def _list_set_aside(pictures: Sequence[Picture], set_aside: Sequence[SetAside]) -> list[dict[str, str]]:
    roots = sorted({picture.file.root for picture in pictures}, key=len, reverse=True)

    def shorten(path: str) -> str:
        root = next((root for root in roots if PurePath(path).is_relative_to(root)), None)
        return PurePath(path).relative_to(root).as_posix() if root else PurePath(path).name

    return sorted(({"file": shorten(one.path), "reason": one.reason} for one in set_aside), key=lambda one: one["file"])


def _list_duplicates(pictures: Sequence[Picture]) -> dict:
    found = find_leaks(pictures).as_json(_LISTED_GROUPS)
    for kind in ("across_splits", "across_classes"):
        found[kind] = [
            [{name: one[name] for name in ("image", "split", "class")} for one in group] for group in found[kind]
        ]
    return found


def _hash_set(pictures: Sequence[Picture]) -> str:
    lines = sorted(
        f"{one.facts.sha256.hex()} {one.file.split}/{one.file.label}/{one.file.source}\n" for one in pictures
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _find_limits(card: dict) -> list[str]:
    """What a user of the set should know of it before trusting a score on it."""
    limits = []
    if card["simulated"]:
        limits.append("The pictures are simulated: scores on them say nothing about real pictures.")
    missing = [one["source"] for one in card["sources"] if not one["provenance"]["licence"]]
    if missing:
        limits.append(f"No licence is stated for {len(missing)} of {len(card['sources'])} sources.")
    audit = card["audit"]
    if audit["verdict"] == UNKNOWN:
        limits.append(f"Shortcuts were not looked for: {audit['reason']}.")
    for finding in audit["findings"]:
        if finding["verdict"] != FINE:
            told = f"; {finding['telling'][0]['words']}" if finding["telling"] else ""
            limits.append(
                f"{finding['family'].capitalize()} alone tell the classes apart with an AUROC of "
                f"{finding['auroc']['value']:.2f}{told}."
            )
    duplicates = card["near_duplicates"]
    for kind, meaning in (("splits", "test scores flatter"), ("classes", "a label is wrong, or tells nothing")):
        if duplicates[f"groups_across_{kind}"]:
            limits.append(
                f"Near-duplicates stand across {kind} ({duplicates[f'groups_across_{kind}']} groups): {meaning}."
            )
    fewest = min(len([one for one in card["sources"] if one["class"] == label]) for label in CLASSES)
    if fewest < 3:
        limits.append("A class has fewer than three sources: a score on this set may be a score on its collections.")
    limits.append("JPEG quality is estimated from the tables; of a picture saved several times the last saving counts.")
    return limits
