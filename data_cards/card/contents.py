"""Contents of a data card: counts, sources, file facts, audit and limits of a set, as plain values.

A pure function of the pictures and of the information about their sources: it uses no time and no
path of the user, so the same set has the same card in any folder. `data_cards.card.markdown`, `croissant` and
`html` format it; `diff` compares two.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from data_cards.audit.audit import Audit, Verdict, format_audit_briefly, format_finding
from data_cards.audit.cross_validation import FEWEST_SOURCES
from data_cards.core.labels import CLASS_NAMES, SPLITS
from data_cards.core.text import format_count
from data_cards.dataset.leakage import CONSEQUENCES, find_leaks
from data_cards.dataset.scan import SetAside
from data_cards.dataset.source_info import FIELDS
from data_cards.dataset.table import Picture, compute_columns
from data_cards.image.jpeg import NO_QUALITY
from data_cards.image.perceptual_hash import BITS, MAX_DISTANCE

CARD_VERSION = 1
_LISTED_GROUPS = 50
_BINS = 16
# Measures of pictures that are summarised and plotted, with their titles.
MEASURES = {
    "width": "width, pixels",
    "height": "height, pixels",
    "aspect": "aspect, width over height",
    "quality": "JPEG quality",
    "bytes_per_pixel": "bytes a pixel",
}


def compute_card(
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    source_info: Mapping[tuple[str, str], Mapping[str, str | None]],
    audit: Audit,
    *,
    selections: Sequence[Mapping] = (),
    split_rule: str = "as the folders give it",
    variants: Mapping | None = None,
    settings: Mapping | None = None,
    versions: Mapping[str, str] | None = None,
    simulated: bool = False,
) -> dict:
    """Compute the contents of a card, ready for JSON.

    Parameters
    ----------
    pictures, set_aside : of the set
    source_info : of each (class, source), see `data_cards.dataset.source_info.read_source_info`
    audit : of the pictures
    selections : the steps by which the set was selected from larger ones
    split_rule, variants, settings, versions : of a build
    simulated : bool, whether the pictures are simulated
    """
    columns = compute_columns(pictures)
    sides = sorted(set(zip(columns["label"], columns["source"], strict=True)))
    card = {
        "card_version": CARD_VERSION,
        "simulated": simulated,
        "pictures": len(pictures),
        "bytes": int(columns["bytes"].sum()),
        "splits": _count_splits(columns),
        "classes": {label: _summarise(_select(columns, label)) for label in CLASS_NAMES},
        "sources": [
            {
                "class": label,
                "source": source,
                "splits": dict(sorted(Counter(members["split"]).items())),
                "provenance": {name: source_info.get((label, source), {}).get(name) for name in FIELDS},
                **_summarise(members),
            }
            for label, source in sides
            for members in (_select(columns, label, source),)
        ],
        "histograms": _compute_histograms(columns),
        "set_aside": _list_set_aside(pictures, set_aside),
        "near_duplicates": _compute_near_duplicates(pictures),
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
        "audit": {**audit.to_dict(), "words": format_audit_briefly(audit)},
    }
    return {**card, "limits": _format_limits(card)}


def _select(columns: dict[str, np.ndarray], label: str, source: str | None = None) -> dict[str, np.ndarray]:
    chosen = columns["label"] == label
    if source is not None:
        chosen &= columns["source"] == source
    return {name: values[chosen] for name, values in columns.items()}


def _count_splits(columns: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    counts = Counter(zip(columns["split"], columns["label"], strict=True))
    return {
        split: {label: counts[split, label] for label in CLASS_NAMES}
        for split in SPLITS
        if any(counts[split, label] for label in CLASS_NAMES)
    }


def _measure(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    width, height, quality = (columns[name] for name in ("width", "height", "quality"))
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "quality": quality[quality != NO_QUALITY],
        "bytes_per_pixel": columns["bytes"] / (width * height),
    }


def _summarise(columns: dict[str, np.ndarray]) -> dict:
    def count(name: str) -> dict[str, int]:
        return dict(sorted(Counter(value or "none" for value in columns[name]).items()))

    spans = {}
    for name, values in _measure(columns).items():
        ends = [round(float(value), 3) for value in np.quantile(values, (0, 0.5, 1))] if len(values) else [None] * 3
        spans[name] = dict(zip(("least", "median", "most"), ends, strict=True))
    return {
        "pictures": len(columns["label"]),
        "bytes": int(columns["bytes"].sum()),
        "formats": count("format"),
        "modes": count("mode"),
        "subsampling": count("subsampling"),
        "quantisation_tables": len(set(columns["tables"]) - {""}),
        "exif": int(columns["exif"].sum()),
        "camera": int(columns["camera"].sum()),
        **spans,
    }


def _compute_histograms(columns: dict[str, np.ndarray]) -> dict[str, dict]:
    """Compute the histogram of each measure that any picture has.

    `edges` holds the ends of the bins; each class has its counts, and `outside` the number of its pictures in no bin.
    """
    everything = _measure(columns)
    by_class = {label: _measure(_select(columns, label)) for label in CLASS_NAMES}
    histograms = {}
    for name, values in everything.items():
        if not len(values):
            continue
        edges = _compute_edges(values)
        counts = {label: np.histogram(by_class[label][name], bins=edges)[0].tolist() for label in CLASS_NAMES}
        histograms[name] = {
            "edges": [round(float(edge), 3) for edge in edges],
            **counts,
            "outside": {label: len(by_class[label][name]) - sum(counts[label]) for label in CLASS_NAMES},
        }
    return histograms


def _compute_edges(values: np.ndarray) -> np.ndarray:
    """Compute the ends of bins, (_BINS + 1,), for all values except the few that are far from the others.

    One picture of 20,000 pixels would put all others into one bin. Bins reach beyond the middle 96% of the values by
    half of its span or half of the median, whichever is larger; or to the outermost value, if it is at most twice as
    far away.
    """
    low, high = sorted((np.quantile(values, 0.02, method="higher"), np.quantile(values, 0.98, method="lower")))
    margin, least, most = max(high - low, np.median(values)), values.min(), values.max()
    first = least if least >= low - margin else low - margin / 2
    last = most if most <= high + margin else high + margin / 2
    return np.histogram_bin_edges(values, bins=_BINS, range=(first, last))


def _list_set_aside(pictures: Sequence[Picture], set_aside: Sequence[SetAside]) -> list[dict[str, str]]:
    roots = sorted({picture.file.root for picture in pictures}, key=len, reverse=True)

    def shorten(path: str) -> str:
        root = next((root for root in roots if PurePath(path).is_relative_to(root)), None)
        return PurePath(path).relative_to(root).as_posix() if root else PurePath(path).name

    return sorted(({"file": shorten(one.path), "reason": one.reason} for one in set_aside), key=lambda one: one["file"])


def _compute_near_duplicates(pictures: Sequence[Picture]) -> dict:
    found = find_leaks(pictures).to_dict(_LISTED_GROUPS)
    for kind in ("across_splits", "across_classes"):
        found[kind] = [
            [{name: one[name] for name in ("image", "split", "class")} for one in group] for group in found[kind]
        ]
    return found


def _hash_set(pictures: Sequence[Picture]) -> str:
    # As bytes, because lines of a million pictures would need twice the memory.
    names = sorted(
        one.facts.sha256 + f"{one.file.split}/{one.file.label}/{one.file.source}".encode("utf-8", "surrogatepass")
        for one in pictures
    )
    digest = hashlib.sha256()
    for name in names:
        digest.update(name[:32].hex().encode() + b" " + name[32:] + b"\n")
    return digest.hexdigest()


def _format_limits(card: dict) -> list[str]:
    """Format the limits of the set as sentences, for readers who want to know how far to trust a score on it."""
    limits = []
    if card["simulated"]:
        limits.append("The pictures are simulated: scores on them say nothing about real pictures.")
    missing = [one["source"] for one in card["sources"] if not one["provenance"]["licence"]]
    if missing:
        limits.append(f"No licence is stated for {len(missing)} of {format_count(len(card['sources']), 'source')}.")
    audit = card["audit"]
    if audit["verdict"] == Verdict.UNKNOWN:
        limits.append(f"The shortcut audit has no result: {audit['reason']}.")
    for finding in audit["findings"]:
        if finding["verdict"] != Verdict.FINE:
            rule = finding["telling"][0]["words"] if finding["telling"] else None
            limits.append(f"{format_finding(finding['family'], finding['auroc']['value'], finding['verdict'], rule)}.")
    duplicates = card["near_duplicates"]
    for side, consequence in CONSEQUENCES.items():
        count = duplicates[f"groups_across_{side.value}"]
        if count:
            limits.append(f"Near-duplicates are across {side.value} ({format_count(count, 'group')}): {consequence}.")
    fewest = min(len([one for one in card["sources"] if one["class"] == label]) for label in CLASS_NAMES)
    if fewest < FEWEST_SOURCES:
        limits.append(
            f"A class has fewer than {FEWEST_SOURCES} sources: a detector that recognises their collections would "
            "score well too."
        )
    limits.append(
        "JPEG quality is estimated from the quantisation tables; of a picture saved several times, from the last ones."
    )
    return limits
