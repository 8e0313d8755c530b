"""Words and tables about a build and a store, for the terminal and for programs."""

from collections import Counter
from dataclasses import asdict

import numpy as np

from data_cards.console import table
from pipeline.amounts import format_bytes, format_seconds
from pipeline.build import BuildSummary
from pipeline.storage import Storage
from pipeline.store import CLASS_NAMES, SPLITS, FeatureStore
from pipeline.verify import Verification


def describe_build(summary: BuildSummary) -> str:
    """The short table that ends a build."""
    plan = summary.plan
    counts = Counter((one.file.split, one.file.label, one.file.source) for one in plan.pictures)
    rows = [[*key, counts[key]] for key in sorted(counts, key=lambda key: (SPLITS.index(key[0]), key[1:]))]
    lines = [table(rows, ["split", "class", "source", "pictures"]), ""]
    size = plan.settings.features.size
    upsampled = plan.count_upsampled()
    if upsampled:
        lines.append(
            f"{upsampled} of {len(plan.pictures)} pictures were upsampled to {size} pixels "
            "(interpolated pixels carry no traces; see --size and --fit crop)"
        )
    if not any(one.file.split == "test" for one in plan.pictures):
        lines.append(
            "no test split: `eval report` will need --split val, or pictures under test/ "
            "(--src test/real=FOLDER --src test/fake=FOLDER)"
        )
    if plan.set_aside:
        lines.append(f"{len(plan.set_aside)} files were set aside:")
        lines += [f"  {one.path}: {one.reason}" for one in plan.set_aside]
    lines.append(
        f"{summary.path}: {len(plan.pictures)} pictures, {plan.rows} samples (variants: {plan.settings.variants}), "
        f"{format_bytes(summary.bytes)}, {format_seconds(summary.seconds)}"
    )
    growth = plan.growth
    if growth.removed:
        lines.append(f"{len(growth.removed)} pictures of the store were gone or changed and were taken out:")
        lines += [f"  {path}" for path in growth.removed]
    if summary.kept:
        lines.append(f"{summary.kept} of {plan.shards} shards were already there, {growth.added} pictures are new")
    return "\n".join(lines)


def build_as_json(summary: BuildSummary) -> dict:
    """The same for a program."""
    plan = summary.plan
    counts = Counter((one.file.split, one.file.label, one.file.source) for one in plan.pictures)
    return {
        "store": str(summary.path),
        "fingerprint": plan.fingerprint,
        "pictures": [
            {"split": split, "class": label, "source": source, "pictures": number}
            for (split, label, source), number in sorted(counts.items())
        ],
        "samples": plan.rows,
        "upsampled": plan.count_upsampled(),
        "set_aside": [{"path": one.path, "reason": one.reason} for one in plan.set_aside],
        "estimate": asdict(summary.estimate) if summary.estimate else None,
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 2),
        "added": plan.growth.added,
        "removed": plan.growth.removed,
        "shards_made": summary.made,
        "shards_kept": summary.kept,
    }


def describe_store(store: FeatureStore) -> dict:
    """What a store is, as plain values."""
    columns = store.columns
    pictures = np.unique(columns["picture"], return_index=True)[1]
    counts = Counter(
        (columns["split"][row], CLASS_NAMES[columns["label"][row]], columns["source"][row]) for row in pictures
    )
    size = Storage(store.path).bytes()
    return {
        "store": str(store.path),
        "complete": True,
        "simulated": bool(store.attributes["simulated"]),
        "format_version": store.attributes["format_version"],
        "fingerprint": store.fingerprint,
        "settings": store.attributes["settings"],
        "versions": {"program": store.attributes["program"], **store.attributes["versions"]},
        "dtype": str(store.features.dtype),
        "shape": list(store.features.shape),
        "chunks": list(store.features.chunks),
        "shards": list(store.features.shards),
        "pictures": [
            {"split": split, "class": label, "source": source, "pictures": counts[split, label, source]}
            for split, label, source in sorted(counts, key=lambda key: (SPLITS.index(key[0]), key[1:]))
        ],
        "variants": dict(sorted(Counter(columns["variant"].tolist()).items())),
        "upsampled": int((columns["scale"][pictures] > 1).sum()),
        "set_aside": store.attributes["set_aside"],
        "roots": store.attributes["roots"],
        "bytes": size,
        "bytes_per_sample": round(size / len(store)),
    }


def format_store(facts: dict) -> str:
    """`describe_store`'s values as text."""
    settings = facts["settings"]
    features = settings["features"]
    rows = [[one["split"], one["class"], one["source"], one["pictures"]] for one in facts["pictures"]]
    named = [
        ["samples", f"{facts['shape'][0]} of {' x '.join(map(str, facts['shape'][1:]))}, {facts['dtype']}"],
        ["chunk, shard", f"{facts['chunks']}, {facts['shards']}"],
        ["size on disk", f"{format_bytes(facts['bytes'])}, {format_bytes(facts['bytes_per_sample'])} a sample"],
        ["fit", f"{features['fit']} to {features['size']} px, {features['resample']}"],
        ["variants", f"{settings['variants']}: " + ", ".join(f"{k} ({n})" for k, n in facts["variants"].items())],
        ["upsampled", f"{facts['upsampled']} pictures"],
        ["set aside", f"{len(facts['set_aside'])} files"],
        ["seed", settings["seed"]],
        ["versions", ", ".join(f"{name} {value}" for name, value in facts["versions"].items())],
        ["fingerprint", facts["fingerprint"]],
        ["made from", ", ".join(facts["roots"])],
    ]
    head = "simulation: made-up sample pictures\n\n" if facts["simulated"] else ""
    return (
        head
        + table(rows, ["split", "class", "source", "pictures"])
        + "\n\n"
        + "\n".join(f"{name:13} {value}" for name, value in named)
    )


def describe_verification(found: Verification, left: Verification, problems: list[str]) -> str:
    """What a check found, and what a repair left."""
    lines = []
    for bad in found.bad:
        lines.append(f"shard {bad.shard}: {bad.reason}")
        lines += [f"  {found.describe_row(row)}" for row in bad.rows]
    lines += [f"{name}: cannot be read" for name in found.damage]
    repaired = len(found.bad) - len(left.bad)
    if repaired:
        lines.append(f"{repaired} shards made again")
    lines += problems
    if left.sound:
        lines.append(f"{left.store.path}: sound, {left.shards} shards")
    return "\n".join(lines)


def verification_as_json(found: Verification, left: Verification, problems: list[str]) -> dict:
    """The same for a program."""
    return {
        "store": str(found.store.path),
        "sound": left.sound,
        "shards": found.shards,
        "bad_shards": [
            {
                "shard": bad.shard,
                "reason": bad.reason,
                "samples": [found.describe_row(row) for row in bad.rows],
                "repaired": bad.shard not in {one.shard for one in left.bad},
            }
            for bad in found.bad
        ],
        "damaged_arrays": list(found.damage),
        "problems": problems,
    }
