"""Summaries of a build and of a verification, for the terminal and for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby

from data_cards.core.console import format_table
from data_cards.core.labels import TEST
from data_cards.core.text import Lines, format_bytes, format_count, format_duration, join_lines
from data_cards.dataset.table import count_sources
from pipeline.builder.build import BuildSummary
from pipeline.builder.estimate import format_estimate
from pipeline.builder.growth import Growth
from pipeline.builder.plan import Plan
from pipeline.maintenance.repair import Cause, Problem
from pipeline.maintenance.verify import Verification

_NAMED = 20  # files, samples or lost pictures of a list
_SOURCES = 4  # named of a split and class


def format_build(summary: BuildSummary) -> Lines:
    """Format the summary of a build, for a terminal."""
    plan = summary.plan
    lines = [
        f"{summary.path}: {len(plan.pictures)} pictures as {plan.rows} samples (variants: {plan.settings.variants}), "
        f"{format_bytes(summary.bytes)}, {format_duration(summary.seconds)}",
        "",
        _format_sources(_count_sources(plan)),
    ]
    size = plan.settings.features.size
    upsampled = plan.count_upsampled()
    if upsampled:
        lines.append(
            f"{upsampled} of {len(plan.pictures)} pictures were upsampled to {size} pixels "
            "(interpolated pixels have no traces; see --size and --fit crop)"
        )
    lines += _list_remarks(plan)
    lines += _list_changes(plan.growth)
    if summary.kept:
        lines.append(f"shards kept: {summary.kept} of {plan.shards}; new pictures: {plan.growth.added}")
    return join_lines(lines)


def _list_changes(growth: Growth, would: str = "") -> list[str]:
    """List the store's pictures that a build removes, or makes again."""
    lines = []
    for words, paths in (
        ("removed from the store, because missing or set aside", growth.removed),
        ("made again, because the file changed", growth.changed),
        ("made again, with another class, source or split than before", growth.reassigned),
    ):
        if paths:
            lines += [f"{would}{words}: {format_count(len(paths), 'picture')}", *_format_some(paths)]
    return lines


def format_dry_run(summary: BuildSummary) -> Lines | str:
    """Format which pictures a build would use, and what it would cost, for a terminal."""
    if summary.estimate is None:
        return "nothing to do: the store is up to date"
    taken = f"scan, audit and this estimate took {format_duration(summary.seconds)}"
    return join_lines(
        [
            _format_sources(_count_sources(summary.plan)),
            *_list_remarks(summary.plan),
            *_list_changes(summary.plan.growth, "would be "),
            f"{format_estimate(summary.estimate)}; {taken}",
        ]
    )


def _list_remarks(plan: Plan) -> list[str]:
    """List what to know of a plan's pictures: those found again, that none is for tests, and the files set aside."""
    lines = []
    if repeated := plan.growth.repeated:
        lines.append(f"kept once: {format_count(repeated, 'file')} of the store, found again by an overlapping folder")
    if not any(one.file.split == TEST for one in plan.pictures):
        lines.append(
            "no test split: add pictures under test/ (--src test/real=FOLDER --src test/fake=FOLDER); "
            "`report --split val` scores validation pictures, to which experts are fitted too"
        )
    if plan.set_aside:
        lines.append(f"set aside: {format_count(len(plan.set_aside), 'file')}")
        lines += _format_some([f"{one.path}: {one.reason}" for one in plan.set_aside])
    return lines


def _format_sources(counts: list[dict]) -> Lines:
    """Format the pictures of each split and class as a table, with the names of their first sources."""
    rows = []
    for (split, label), members in groupby(counts, key=lambda one: (one["split"], one["class"])):
        own = list(members)
        names = ", ".join(one["source"] for one in own[:_SOURCES])
        more = f" and {len(own) - _SOURCES} more" if len(own) > _SOURCES else ""
        rows.append([split, label, sum(one["pictures"] for one in own), len(own), names + more])
    return format_table(rows, ["split", "class", "pictures", "sources", "names"])


def _format_some(texts: Sequence[str]) -> list[str]:
    """Format the first texts as indented lines, and the number of the others."""
    more = len(texts) - _NAMED
    return [f"  {one}" for one in texts[:_NAMED]] + ([f"  and {more} more (--json names all)"] if more > 0 else [])


def build_to_dict(summary: BuildSummary) -> dict:
    """Return the summary of a build, ready for JSON."""
    plan = summary.plan
    return {
        "store": str(summary.path),
        "fingerprint": plan.fingerprint,
        "pictures": _count_sources(plan),
        "samples": plan.rows,
        "upsampled": plan.count_upsampled(),
        "set_aside": [asdict(one) for one in plan.set_aside],
        "estimate": asdict(summary.estimate) if summary.estimate else None,
        "audit": summary.audit.to_dict(),
        "bytes": summary.bytes,
        "seconds": round(summary.seconds, 2),
        "added": plan.growth.added,
        "removed": plan.growth.removed,
        "changed": plan.growth.changed,
        "reassigned": plan.growth.reassigned,
        "repeated": plan.growth.repeated,
        "shards_made": summary.made,
        "shards_kept": summary.kept,
    }


def _count_sources(plan: Plan) -> list[dict]:
    return count_sources((one.file.split, one.file.label, one.file.source) for one in plan.pictures)


def format_verification(found: Verification, left: Verification, problems: list[Problem]) -> Lines:
    """Format the damage that was found, and what a repair could not fix, for a terminal."""
    lines = []
    for bad in found.bad:
        lines.append(
            f"shard {bad.shard}, {bad.name}: {bad.damage.value}" + (f" ({bad.details})" if bad.details else "")
        )
        lines += _format_some([*map(found.format_row, bad.rows)])
    lines += [f"{name}: differs from what was written" for name in found.damage]
    repaired = len({bad.shard for bad in found.bad} - {bad.shard for bad in left.bad})
    if repaired:
        lines.append(f"rebuilt: {format_count(repaired, 'shard')}")
    if rebuilt := [name for name in found.damage if name not in left.damage]:
        lines.append(f"rebuilt: {', '.join(rebuilt)}")
    lines += map(format_problem, problems)
    if left.sound:
        lines.append(f"{left.path}: sound, {format_count(left.shards, 'shard')}")
    return join_lines(lines)


def format_problem(problem: Problem) -> str:
    """Format a part that could not be repaired, and the cause."""
    named, more = ", ".join(problem.details[:_NAMED]), len(problem.details) - _NAMED
    why = {
        Cause.IS_ORIGINAL: "records what the store was built from, so it cannot be rebuilt; restore it from a backup",
        Cause.DIFFERS: f"the rebuilt files differ from the original{named and f' ({named})'}; the old ones were kept",
        Cause.LOST_PICTURES: f"needs pictures that are gone or have changed: {named}"
        + (f" and {more} more" if more > 0 else ""),
        Cause.UNKNOWN_SHARD: "a shard is damaged too, and the checksums cannot identify it; build the store again, "
        "with another --out",
        Cause.DAMAGED_SHARDS: "cannot be computed while shards are damaged",
        Cause.FAILED: named,
    }
    return f"{problem.part}: {why[problem.cause]}"


def verification_to_dict(found: Verification, left: Verification, problems: list[Problem]) -> dict:
    """Return what `format_verification` formats, ready for JSON."""
    return {
        "store": str(found.path),
        "sound": left.sound,
        "shards": found.shards,
        "bad_shards": [
            {
                "shard": bad.shard,
                "file": bad.name,
                "reason": bad.damage.value,
                "details": bad.details,
                "samples": [found.format_row(row) for row in bad.rows],
                "repaired": bad.name not in {one.name for one in left.bad},
            }
            for bad in found.bad
        ],
        "damaged_arrays": list(found.damage),
        "problems": [{"part": one.part, "cause": one.cause.value, "details": list(one.details)} for one in problems],
    }
